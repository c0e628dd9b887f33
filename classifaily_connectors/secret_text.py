"""The forms in which a secret arrives: a variable, a mounted file, a value copied with its quotes.

A form that is common is understood. What only says where a secret lies (a path, an address, a template that nobody
filled in) is refused: taken for the secret itself, it would be one that a stranger can guess. No message shows a value.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Mapping
from pathlib import Path

from classifaily_connectors.errors import ConfigurationError

FILE = "_FILE"
"""Ends the name of a variable that names a file with the secret in it, as images for Docker and Kubernetes have it."""
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019"}
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# The standard alphabet has a slash in it, so one secret in 64 begins like a path.
_BASE64 = re.compile(
    r"(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9])(?:[A-Za-z0-9+/]{4}){6,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
)
_PART = 8
"""Characters between two slashes of a random secret, on average at least; in a path there are fewer."""
_PATH = "a path"
_MASK = r"(\*{3}|\u2022{3}|\.{3}|\u2026|<hidden>|\[redacted\])"
_FORMS = {
    "an address": (r"(?i:[a-z][a-z0-9+.-]*://)",),
    "a reference": (
        r"(?i:(arn|urn|vault|kms|aws|awssm|awsssm|gcp|azure|secretref|ssm|sops|file|env|ref\+\w+):)",
        r"projects/[^/]+/secrets/",
        r"@Microsoft\.KeyVault|!secret|!vault|\$ANSIBLE_VAULT|ENC[\[(]|AQICA|secretKeyRef|valueFrom",
    ),
    "a template that nobody filled in": (r"\$[A-Za-z_]\w*$|%\w+%$|\{%|<%|\{resolve:", r".*(\$\{|\$\(|\{\{)"),
    "a placeholder": (r"<.*>$|\[.*\]$", r"(?i:your[-_ ]|change[-_ ]?me|replace[-_ ]?me|example[-_ ]secret|todo\b)"),
    "a mask": (r"[xX]+$", rf"(?i:.*{_MASK})"),
    "a certificate or a private key": (r"-----BEGIN ",),
    "a line of a settings file": (
        r"(export\s+)?[A-Za-z_]\w*\s+=\s",
        r"(export\s+)?[A-Z][A-Z0-9_]+=(?=[^=])",
        r"[A-Za-z_][\w-]*:\s",
    ),
    _PATH: (
        r"@?(\.{0,2}|~\w*|[A-Za-z]:)[/\\](?!$)",
        r"@?[\w./~-]+\.(txt|secret|key|pem|env|json|ya?ml|conf|cfg|ini)$",
        r"[a-z][a-z_-]*(/[a-z][a-z_.-]*)+$",
    ),
    "a comment": (r"#",),
}
_NO_SECRETS = {what: re.compile("|".join(forms)) for what, forms in _FORMS.items()}


def bare(text: str) -> str:
    """`text` without what is round a secret by accident: a byte order mark, blanks and one pair of quotes."""
    text = text.strip().removeprefix("\ufeff").strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text


def is_masked(text: str) -> bool:
    """Whether `text` holds what stands in the place of a secret where one is shown: asterisks, dots, `<hidden>`."""
    return re.search(_MASK, text, re.IGNORECASE) is not None


def no_secret(text: str) -> str | None:
    """Why `text` (which is `bare`) cannot be a secret; None when it can. Never shows it."""
    if not text.isprintable():
        return "holds a line break or another character that cannot be seen"
    if text.endswith(("\\n", "\\r")):
        return "ends in a line break that was written as a backslash and a letter"
    for what, form in _NO_SECRETS.items():
        if form.match(text) and not (what == _PATH and _random(text)):
            return f"looks like {what}, not like a secret"
    return "holds a blank" if " " in text else None


def from_environment(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The value of the variable `name`, or what is in the file that `name`_FILE names; None when neither is set.

    Raises ConfigurationError when both are set, and when the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    file = environ.get(name + FILE, "").strip()
    if not file:
        return environ.get(name)
    if environ.get(name):
        raise ConfigurationError(f"{name} and {name}{FILE} are both set: keep one of them")
    return read_file(Path(file), name + FILE)


def read_file(file: Path, variable: str) -> str:
    """The text in `file`, whatever Unicode it is written in. Raises ConfigurationError when it cannot be read."""
    problem = ""
    try:
        content = file.expanduser().read_bytes()
        text = content.decode(next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig"))
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except ValueError:  # no Unicode, or a name with a null in it
        problem = "it is no text"
    else:
        return text
    # The secret itself may stand where the file's name should: only what is a path all the same is shown.
    shown = file if file.is_absolute() and _exists(str(file.parent)) else "the file that it names"
    raise ConfigurationError(f"{variable}: {shown} cannot be read: {problem}")


def _random(text: str) -> bool:
    return _BASE64.fullmatch(text) is not None and text.count("/") * _PART <= len(text) and not _exists(text)


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False
