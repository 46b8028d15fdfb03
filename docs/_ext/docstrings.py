"""Docstrings on the site: names in backticks link to where they are documented, and signatures are those that users call.

A backtick in a docstring is code, as `help` shows it. Sphinx's own roles would link it, but warn of whatever is not a name
(`lam * x`), or cut characters off (`.float()` loses its dot); so this is a role of its own, the default one in docstrings.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any, TypeVar

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole
from sphinx.util.inspect import stringify_signature

import vicinal

# a name, perhaps of several parts, perhaps called: `Mixup`, `Plan.target`, `Mixup(0.2)`
_NAME = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\))?", re.DOTALL)
_NOT_SHOWN = ("_state",)  # what `dataclasses.replace` hands on


class Name(SphinxRole):
    """Code, which links where its first name is documented."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the code, as a reference that may stay unresolved."""
        literal = nodes.literal(self.rawtext, self.text, classes=["code"])
        found = _NAME.fullmatch(self.text)
        if found is None or found[1].startswith("vicinal.lab"):  # of which the site has two classes
            return [literal], []
        target = found[1]
        if target.partition(".")[0] in vicinal.__all__:
            target = f"vicinal.{target}"
        context = {name: self.env.ref_context.get(name) for name in ("py:module", "py:class")}
        reference = addnodes.pending_xref(
            self.rawtext, literal, refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=False
        )
        reference["refdoc"] = self.env.docname
        reference.attributes.update(context)
        return [reference], []


def signature_of_users(
    app: Sphinx, what: str, name: str, of: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Return the signature of a class without what users never give; types stand beside the arguments.

    A class whose base is of a package that is not installed has, to Sphinx, the signature of what stands for that base.
    """
    if what != "class":
        return None
    made = next(
        (each for each in of.__mro__ if "__init__" in vars(each) and each.__module__.startswith("vicinal.")), None
    )
    if made is None:
        return None
    found = inspect.signature(made.__init__)
    _, *shown = [parameter for parameter in found.parameters.values() if parameter.name not in _NOT_SHOWN]
    plain = found.replace(parameters=shown, return_annotation=inspect.Signature.empty)
    return stringify_signature(plain, show_annotation=False), None


def other_anchors(app: Sphinx, domain: str, kind: str, content: nodes.Element) -> None:
    """Let both names of a class lead to it, `vicinal.Mixup` and `vicinal.vicinities.Mixup`.

    viewcode links back from a module's source by one of the two for everything in it.
    """
    for signature in content.parent.findall(addnodes.desc_signature) if domain == "py" else ():
        name = signature.get("fullname")
        if signature.parent is not content.parent or not signature["ids"] or not name:
            continue
        known = app.env.domaindata["py"]["objects"]
        home = getattr(getattr(import_module(signature["module"]), name.partition(".")[0]), "__module__", "vicinal")
        for other in (f"vicinal.{name}", f"{home}.{name}"):
            if other not in signature["ids"] and (other not in known or known[other].aliased):
                signature["ids"].append(other)


def type_variable(app: Sphinx, env: Any, node: addnodes.pending_xref, text: nodes.TextElement) -> nodes.Element | None:
    """Leave a type variable in a signature as it is: it is documented nowhere."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if node.get("reftype") == "class" and module.startswith("vicinal."):
        found = getattr(import_module(module), name, None)
        return text if isinstance(found, TypeVar) else None
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the role `name`, the signatures and the anchors."""
    app.add_role("name", Name())
    app.connect("autodoc-process-signature", signature_of_users)
    app.connect("object-description-transform", other_anchors)
    app.connect("missing-reference", type_variable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
