"""Vicinities as text: every composition is read, and nothing is run."""

from __future__ import annotations

from pathlib import Path

import pytest

import vicinal
from vicinal import (
    ERM,
    Beta,
    Chain,
    Choice,
    CutMix,
    Dirichlet,
    GaussianNoise,
    InputMixup,
    LabelDistance,
    LabelSmoothing,
    Mixup,
    Nearest,
    OtherClass,
    RandomPairs,
    SameClass,
    Scheduled,
    methods,
)
from vicinal.lab import parse
from vicinal.lab.errors import UserError


@pytest.mark.parametrize(
    ("text", "vicinity"),
    [
        ("ERM()", ERM()),
        ("Mixup", Mixup()),
        ("Mixup(0.4)", Mixup(0.4)),
        ("  Mixup(alpha=4)\n", Mixup(4)),
        ("Mixup(alpha=1e-3)", Mixup(0.001)),
        ("Mixup(alpha=+0.4)", Mixup(0.4)),
        ("Mixup(pairing=SameClass)", Mixup(pairing=SameClass())),
        ("Mixup(0.2, SameClass())", Mixup(0.2, SameClass())),
        ("Mixup(pairing=RandomPairs(self_pairs=False))", Mixup(pairing=RandomPairs(self_pairs=False))),
        ("Mixup(Dirichlet(0.5, k=3, per='example'))", Mixup(Dirichlet(0.5, k=3, per="example"))),
        ("Mixup(Beta(0.5, per='example'))", Mixup(Beta(0.5, per="example"))),
        ("Mixup(0.3, pairing=LabelDistance(bandwidth=0.25))", Mixup(0.3, pairing=LabelDistance(0.25))),
        ("InputMixup(1.0, Nearest(k=3, same_class=True))", InputMixup(1.0, Nearest(3, same_class=True))),
        ("InputMixup(1.0, OtherClass())", InputMixup(1.0, OtherClass())),
        ("CutMix(1.0, per='example')", CutMix(1.0, per="example")),
        ("GaussianNoise(sigma=0.05)", GaussianNoise(0.05)),
        ("LabelSmoothing(eps=0.1)", LabelSmoothing(0.1)),
        ("Chain([InputMixup(1.0), LabelSmoothing(0.1)])", Chain([InputMixup(1.0), LabelSmoothing(0.1)])),
        ("Chain((ERM(), Mixup))", Chain([ERM(), Mixup()])),
        ("Choice([Mixup(0.2), ERM()], p=[0.25, 0.75])", Choice([Mixup(0.2), ERM()], p=[0.25, 0.75])),
        ("Choice([Mixup(0.2), ERM()], p=None)", Choice([Mixup(0.2), ERM()])),
        ("Scheduled(Mixup(), start=1, stop=3)", Scheduled(Mixup(), start=1, stop=3)),
        ("Mixup(2.0, pairing=OtherClass)", Mixup(2.0, OtherClass())),
        ("Unmixed(Mixup(2.0, pairing=OtherClass))", methods.Unmixed(Mixup(2.0, OtherClass()))),
        ("Mixup(pairing=Transport(k=8))", Mixup(pairing=methods.Transport(8))),
        ("Mixup(2.0, Selective('other', 'any'))", Mixup(2.0, methods.Selective("other", "any"))),
        ("Remix(counts=[9, 1])", methods.Remix(counts=(9, 1))),
        ("Beside(Mixup(10.0))", methods.Beside(Mixup(10.0))),
    ],
)
def test_it_reads(text: str, vicinity: vicinal.Vicinity) -> None:
    assert parse.parse(text) == vicinity


def test_every_vicinity_reads_its_own_repr() -> None:
    for vicinity in (Mixup(0.4, Nearest(3)), Chain([Choice([ERM(), Mixup(Beta(0.2))], p=[0.5, 0.5]), CutMix()])):
        assert parse.parse(repr(vicinity)) == vicinity


def test_the_vicinities_by_name() -> None:
    assert parse.vicinities() == [
        *("Beside", "Chain", "Choice", "ColumnMix", "CutMix", "ERM", "FMix", "GaussianNoise", "InputMixup"),
        *("LabelSmoothing", "Mixup", "Remix", "SKMixup", "Scheduled", "Unmixed"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mixup(0.4)", "there is no vicinity 'mixup'; did you mean Mixup?"),
        ("MIXUP", "did you mean Mixup?"),
        ("Mixp(alpha=0.4)", "did you mean Mixup?"),
        ("Mixup(pairing=same_class)", "there is no pairing 'same_class'; did you mean SameClass?"),
        ("Mixup(0.4, same_class)", "there is no pairing 'same_class'; did you mean SameClass?"),
        (
            "Mixup(pairing=SMOTE())",
            "there is no pairing 'SMOTE'; the pairings are LabelDistance, Nearest, OtherClass, ",
        ),
        ("Chain([LabelSmothing(0.1)])", "there is no vicinity 'LabelSmothing'; did you mean LabelSmoothing?"),
        ("Chain(parts=[same_class])", "there is no vicinity 'same_class'; did you mean Mixup(pairing=SameClass())?"),
        ("SameClassMixup(alpha=0.4)", "vicinity 'SameClassMixup'; did you mean Mixup(pairing=SameClass())?"),
        ("label_distance", "there is no vicinity 'label_distance'; did you mean Mixup(pairing=LabelDistance())?"),
        ("dirichlet(0.5)", "there is no vicinity 'dirichlet'; did you mean Mixup(alpha=Dirichlet())?"),
        ("Betta(0.5)", "there is no vicinity 'Betta'; did you mean Mixup(alpha=Beta())?"),
        ("Beta(0.3)", "'Beta(0.3)' is a part of a vicinity; did you mean Mixup(alpha=Beta(0.3))?"),
        ("SMOTE()", "there is no vicinity 'SMOTE'; the vicinities are Beside, Chain, Choice, "),
        ("Vicinity()", "there is no vicinity 'Vicinity'; "),
        ("SameClass()", "'SameClass()' is a part of a vicinity; did you mean Mixup(pairing=SameClass())?"),
        ("0.4", "'0.4' is not a vicinity; the vicinities are "),
        ("", "'' is not a vicinity; write it as Mixup(alpha=0.4)"),
        ("Mixup(alpha=0)", "Mixup: alpha must be a finite number > 0, got 0"),
        ("Mixup(alpha=-1)", "Mixup: alpha must be a finite number > 0, got -1"),
        ("Mixup(alpha=1e999)", "Mixup: alpha must be a finite number > 0, got inf"),
        ("Mixup(alpha='a')", "Mixup: alpha must be a number, got 'a'"),
        ("Mixup(alpha=True)", "Mixup: alpha must be a number, got True"),
        ("Mixup(alpha=1" + "0" * 400 + ")", "Mixup: alpha must be a finite number > 0, got an integer of 1329 bits"),
        ("Mixup(beta=1)", "Mixup takes alpha, pairing (got an unexpected keyword argument 'beta')"),
        ("Mixup(1, 2, 3)", "Mixup takes alpha, pairing (too many positional arguments)"),
        ("Scheduled()", "Scheduled takes part, start, stop, values (missing a required argument: 'part')"),
        ("Chain([])", "Chain: a composition needs one or more vicinities, got []"),
        ("Choice([ERM()], p=[0.5])", "Choice: p must hold 1 probabilities that sum to 1"),
        ("Mixup(alpha=0.4, alpha=0.5)", "Mixup is given '**' or an argument twice; write each argument out, once"),
    ],
)
def test_it_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        parse.parse(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["SameClasss", "OtherClas", "LabelDist", "Nearst", "Rol", "RandomPair", "bet", "Dirichle"]
)
def test_what_is_proposed_is_read(name: str) -> None:
    with pytest.raises(UserError) as error:
        parse.parse(name)
    parse.parse(str(error.value).split("did you mean ")[1].rstrip("?"))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch ran')",
        'exec(\'open("ran", "w")\')',
        "Mixup.__init__",
        "Mixup().state",
        "Mixup(alpha=Mixup.__mro__[1].__subclasses__())",
        "Mixup(alpha=(lambda: open('ran', 'w'))())",
        "lambda: open('ran', 'w')",
        "f\"{open('ran', 'w')}\"",
        "Mixup(alpha=f'{1}')",
        "Mixup(**{'alpha': 1})",
        "Mixup(*[1])",
        "[Mixup() for _ in [1]]",
        "Chain([x for x in (Mixup(),)])",
        "{Mixup(): 1}",
        "{[1]: 2}",
        "Mixup(alpha := 1)",
        "Mixup() if open('ran', 'w') else Mixup()",
        "Mixup(); open('ran', 'w')",
        "Mixup()\nopen('ran', 'w')",
        "import os",
        "Mixup(alpha=9**9**9**9)",
        "Mixup(alpha=1+1)",
        "Mixup(alpha=[1] * 10**9)",
        "(Mixup)()()",
        "Mixup(seed=[])",
        "await Mixup()",
        "Mixup(alpha=...)",
        "Mixup(alpha=b'1')",
        "Mixup(alpha=1j)",
        "Mixup(\0)",
        "\0",
        "\ud800",
        "#",
        "'\\d'",
        "State()",
        "MixedTarget",
        "open",
    ],
)
def test_evil_text_is_refused_and_not_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        parse.parse(text)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "(" * 900,
        "[" * 900,
        "(" * 90 + "1" + ")" * 90,
        "-" * 990 + "1",
        "not " * 240 + "1",
        "Mixup(" * 150,
        "Chain([" * 80 + "ERM()" + "])" * 80 + ".x",
        "1" + "+1" * 490,
        "a" + ".a" * 490,
        "a" * 10**7,
        "(" * 10**7,
        "1" * 999,
        "'" * 999,
        "lambda:" * 140 + "1",
    ],
)
def test_text_made_to_break_the_parser_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse.parse(text)
    assert len(str(error.value)) < 250


def test_the_longest_text_is_read() -> None:
    text = "Mixup(alpha=0.4)".ljust(998) + "#"
    assert parse.parse(text) == Mixup(0.4)
    with pytest.raises(UserError, match="a vicinity of 1,001 characters is not read; write it in 1,000 at most"):
        parse.parse("Mixup(alpha=0.4)".ljust(1001))


def test_qualified_text_is_what_python_reads_after_import_vicinal() -> None:
    text = "Chain([InputMixup(1.0, Nearest(k=3)), Mixup(Beta(0.4), SameClass()), Unmixed(Mixup(pairing=Transport(8)))])"
    said = parse.qualified(text)
    assert said.startswith("vicinal.Chain([vicinal.InputMixup(1.0, vicinal.Nearest(k=3))")
    assert eval(said, {"vicinal": vicinal}) == parse.parse(text)
