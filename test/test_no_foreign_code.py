"""By the sources themselves: nothing is unpickled, no code comes from a model, nobody is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from package_sources import trees

# Modules that run what they read, or talk to other machines.
FORBIDDEN_MODULES = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve",
    "urllib", "http", "ftplib", "smtplib", "telnetlib", "xmlrpc", "requests", "httpx", "aiohttp",
    "urllib3", "websocket", "websockets", "huggingface_hub", "boto3", "paramiko",
}  # fmt: skip
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
SUSPECT_KEYWORDS = {"trust_remote_code", "allow_pickle", "shell"}
DOWNLOADS = {"hf_hub_download", "snapshot_download", "urlopen", "urlretrieve"}
CONNECTS = {"connect", "connect_ex", "create_connection", "listen"}


def offences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of everything that is forbidden."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            yield from ((line, a.name) for a in node.names if _is_forbidden(a.name))
        elif isinstance(node, ast.ImportFrom):
            if not node.level and _is_forbidden(node.module or ""):
                yield line, str(node.module)
            yield from ((line, a.name) for a in node.names if a.name in DOWNLOADS)
        elif isinstance(node, ast.Call):
            yield from _call(node, line)


def _is_forbidden(module: str) -> bool:
    return module.split(".")[0] in FORBIDDEN_MODULES


def _call(node: ast.Call, line: int) -> Iterator[tuple[int, str]]:
    name = _name(node.func)
    owner, _, last = name.rpartition(".")
    if isinstance(node.func, ast.Name) and last in FORBIDDEN_NAMES:
        yield line, last
    if name == "importlib.import_module" and node.args and isinstance(node.args[0], ast.Constant):
        if _is_forbidden(str(node.args[0].value)):
            yield line, str(node.args[0].value)
    if last in DOWNLOADS or (last in CONNECTS and owner not in ("", "sqlite3")):
        yield line, name
    if name == "torch.load" or (last == "load" and owner in ("yaml", "torch.jit", "torch.hub")):
        if not (owner == "yaml" and len(node.args) == 2 and _name(node.args[1]) == "_Loader"):
            yield line, name
    if last in ("unsafe_load", "full_load"):
        yield line, name
    for keyword in node.keywords:
        is_off = isinstance(keyword.value, ast.Constant) and keyword.value.value in (False, None)
        if keyword.arg in SUSPECT_KEYWORDS and not is_off:
            yield line, f"{keyword.arg}=…"
    if last == "from_pretrained" and not any(k.arg == "local_files_only" for k in node.keywords):
        yield line, "from_pretrained without local_files_only"


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_the_package() -> None:
    """No offence in any module."""
    found = [
        f"{file}:{line}: {what}" for file, tree in trees().items() for line, what in offences(tree)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from urllib import request",
        "import http.client as h",
        "from transformers.utils.hub import snapshot_download",
        "import importlib\nimportlib.import_module('pickle')",
        "eval(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "torch.load(path)",
        "torch.hub.load('a', 'b')",
        "AutoModel.from_pretrained(x, local_files_only=True, trust_remote_code=True)",
        "AutoModel.from_pretrained(x)",
        "subprocess.run(command, shell=True)",
        "yaml.load(text, yaml.Loader)",
        "yaml.unsafe_load(text)",
        "connection.connect(('10.0.0.1', 80))",
        "socket.create_connection(address)",
    ],
)
def test_what_would_be_found(source: str) -> None:
    """Each way in is seen."""
    assert list(offences(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)",
        "backend.load()",
        "model.to(device).eval()",
        "AutoConfig.from_pretrained(x, local_files_only=True)",
        "re.compile('a')",
        "from . import http",
    ],
)
def test_what_is_harmless(source: str) -> None:
    """And is not."""
    assert not list(offences(ast.parse(source)))
