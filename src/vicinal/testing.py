"""Checks of a pipeline that mixes, as tests: `check_mixing` in any test, `parametrize_with_checks` with pytest.

    from vicinal.testing import check_mixing
    from train import make_loader

    def test_the_loader_mixes_what_its_labels_say():
        check_mixing(make_loader, alpha=0.2)

`vicinal check` does the same on the command line.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vicinal.checking import importing
from vicinal.checking.codes import CODES, code
from vicinal.checking.report import Report

Expected = Mapping[str, str]  # of a code, the reason why it is found


class MixingFault(AssertionError):
    """A pipeline has a fault that was not expected, or has one no more that was."""


def load_target(name: str, folder: str | Path | None = None) -> Any:
    """Return an object of a program by its name, as `vicinal check` reads it.

    Args:
        name: `FILE.py:NAME` or `package.module:NAME`.
        folder: where the file or package is looked for; by default the current folder.

    Raises:
        ValueError: there is none, or its program fails while it is imported.

    Examples:
        >>> load_target("vicinal.vicinities:Mixup").__name__
        'Mixup'

    """
    return importing.load(name, None if folder is None else Path(folder)).value


def check_mixing(fn: Any, example: Any = None, *, expected_failed: Expected | None = None, **options: Any) -> Report:
    """Check that a pipeline mixes what its labels say, by `vicinal.check`.

    Args:
        fn: anything that `vicinal.check` takes: a loader, a collate function, a transform, a training step, a loss, a
            Lightning module, a Trainer, or a function that returns one of these.
        example: a batch, or a loader of which the first batch is taken.
        expected_failed: codes that are found, each with the reason why that is accepted. One that is found no more fails.
        options: of `vicinal.check`: alpha, p, smoothing, ignore and so on.

    Returns:
        The report, whose notes never fail.

    Raises:
        MixingFault: an AssertionError with the report: an error or a warning was found that was not expected, or an
            expected code was not.
        ValueError: a name in `expected_failed` is not a code, or is ignored as well.

    Examples:
        >>> from vicinal import Mixup
        >>> def forgetful(x, y):
        ...     return Mixup(0.2)(x, y)[0], y  # the labels stay
        >>> check_mixing(forgetful, expected_failed={"VIC002": "issue 12: the labels are mixed in the loss"}).codes
        ['VIC002']

    """
    __tracebackhide__ = True  # pytest shows the line of the test alone
    expected = _expected(expected_failed, options)
    report = _check(fn, example, options)
    problems = [f"{name} was found" for name in _failed(report) if name not in expected]
    problems += [_gone(name, reason) for name, reason in expected.items() if name not in report.codes]
    if problems:
        raise MixingFault("\n".join((f"{report.target}: {'; '.join(problems)}", "", str(report))))
    return report


def parametrize_with_checks(
    targets: Iterable[Any] | Mapping[str, Any],
    *,
    expected_failed: Expected | Callable[[Any], Expected] | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make one pytest test of each target and code, like scikit-learn's decorator of this name.

    A target is checked once, by the first of its tests that runs. Codes of notes have no test unless they are expected::

        @parametrize_with_checks([make_loader, collate])
        def test_mixing(target, check):
            check(target)

    Args:
        targets: anything that `check_mixing` takes, or a dictionary of such by the names that its tests have.
        expected_failed: codes that are found, each with its reason: these tests are expected to fail, strictly. Or a
            function that takes a target and returns its codes and reasons.
        options: of `vicinal.check`, for all targets.

    Raises:
        ImportError: pytest is not installed.
        ValueError: a name in `expected_failed` is not a code, or is ignored as well.

    Examples:
        >>> from vicinal import Mixup
        >>> marks = parametrize_with_checks({"mixup": Mixup(0.2)}).mark
        >>> marks.args[0], marks.args[1][0].id
        (('target', 'check'), 'mixup-VIC001')

    """
    try:
        import pytest
    except ImportError as error:
        raise ImportError(
            "parametrize_with_checks needs pytest: pip install pytest; check_mixing works without"
        ) from error
    named = dict(targets) if isinstance(targets, Mapping) else _by_name(targets)
    cases = []
    for name, target in named.items():
        expected = _expected(expected_failed(target) if callable(expected_failed) else expected_failed, options)
        once = _Once(options)
        for kind in CODES.values():
            if kind.severity == "note" and kind.code not in expected:
                continue
            marks = []
            if kind.code in expected:  # any other error than the fault itself still fails
                marks = [pytest.mark.xfail(reason=expected[kind.code], strict=True, raises=MixingFault)]
            check = functools.partial(_check_one, once, kind.code)
            cases.append(pytest.param(target, check, id=f"{name}-{kind.code}", marks=marks))
    return pytest.mark.parametrize(("target", "check"), cases)


class _Once:
    """One check of a target, shared by its tests."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._report: Report | None = None
        self._error: BaseException | None = None

    def report(self, target: Any) -> Report:
        """Return the report of the first call; where that failed, tell it there and skip the later tests."""
        if self._error is not None:
            import pytest

            pytest.skip(f"the check failed in an earlier test: {type(self._error).__name__}: {self._error}")
        if self._report is None:
            try:
                self._report = _check(target, None, self._options)
            except Exception as error:
                self._error = error
                raise
        return self._report


def _check_one(once: _Once, name: str, target: Any) -> None:
    __tracebackhide__ = True
    report = once.report(target)
    findings = [finding for finding in report.findings if finding.code == name]
    if findings:
        one = Report(report.target, findings, file=report.file, line=report.line, seconds=report.seconds)
        raise MixingFault(f"{name} was found\n\n{one}")
    if name in report.skipped:
        import pytest

        pytest.skip(report.skipped[name])


def _check(target: Any, example: Any, options: Mapping[str, Any]) -> Report:
    from vicinal.checking.check import check

    return check(target, example, **options)


def _expected(given: Expected | None, options: Mapping[str, Any]) -> dict[str, str]:
    expected = {code(name).code: reason for name, reason in (given or {}).items()}
    if both := sorted(set(expected) & {code(name).code for name in options.get("ignore") or ()}):
        raise ValueError(f"{both[0]} is ignored, so it cannot be expected: leave it out of ignore or expected_failed")
    return expected


def _failed(report: Report) -> list[str]:
    return [name for name in report.codes if CODES[name].severity != "note"]


def _gone(name: str, reason: str) -> str:
    return f"{name} is expected to be found ({reason}) but was not: remove it from expected_failed"


def _by_name(targets: Iterable[Any]) -> dict[str, Any]:
    named = dict[str, Any]()
    for target in targets:
        name, i = _name(target), 2
        free = name
        while free in named:
            free, i = f"{name}_{i}", i + 1
        named[free] = target
    return named


def _name(target: Any) -> str:
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.isroutine(target) or inspect.isclass(target):
        return target.__qualname__.rpartition("<locals>.")[2].replace("<lambda>", "lambda")
    return type(target).__name__
