"""Builds the distribution, and the types of its one module.

A single module cannot ship its types (PEP 561 wants a package), so the wheel has a stub package
beside it. It is made here from the module whenever a wheel is built, and is not kept.
"""

from __future__ import annotations

import ast
import enum
import re
import runpy
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
MODULE = 'aiodnsresolver'
STUB = Path(f'{MODULE}-stubs', '__init__.pyi')
STUB_IMPORTS = 'from typing import Any, NamedTuple, Self, type_check_only'
EXPIRING_STUB = """\
class {0}ExpiresAt({0}):
    expires_at: float

    def __new__(cls, value: Iterable[Any], expires_at: float) -> Self: ..."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
PLACEHOLDER = ast.Expr(ast.Constant(...))
ALIAS = (types.GenericAlias, types.UnionType)  # what a type alias is once it is evaluated
# What makes an annotation of the bare class of a value.
ARGUMENTS = {
    'dict': '[Any, Any]',
    'frozenset': '[Any]',
    'list': '[Any]',
    'set': '[Any]',
    'tuple': '[Any, ...]',
}


# --- The stub ----------------------------------------------------------------
#
# The module's text without what it does, and the classes that its table of
# records makes on import. From the text come the names and annotations; from the
# values those of what has no annotation.


def make_stub(path: Path) -> str:
    """Returns the stub of a module: its signatures, classes and constants with docstrings."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    values = runpy.run_path(str(path), run_name=MODULE)
    statements = [text_of(node, values) for node in module_stubs(tree.body, values)]
    statements.insert(1, STUB_IMPORTS)  # after the docstring
    return '\n\n'.join([*statements, *record_stubs(values['LAYOUTS'].values())]) + '\n'


def text_of(node: ast.stmt, values: dict[str, Any]) -> str:
    """Returns a statement as text.

    An enum without members, which others are made from, is a mistake to mypy in a stub only.
    """
    text = ast.unparse(node)
    value = values.get(node.name) if isinstance(node, ast.ClassDef) else None
    if isinstance(value, enum.EnumType) and not len(value):
        return text.replace(':\n', ':  # type: ignore[misc]\n', 1)
    return text


def module_stubs(body: list[ast.stmt], values: dict[str, Any]) -> Iterator[ast.stmt]:
    """Yields the statements of a module that a stub has, each in its form."""
    for node in body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(ast.Constant()):
                yield node
            # A stub that has it would let every misspelt import pass.
            case ast.FunctionDef(name='__getattr__'):
                pass
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield function_stub(node)
            case ast.ClassDef():
                yield class_stub(node)
            case ast.If(test=ast.Name(id='TYPE_CHECKING')):
                yield from type_checking_stubs(node.body, values)
            case ast.AnnAssign():
                yield ast.AnnAssign(node.target, node.annotation, None, node.simple)
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield constant_stub(name, node, values[name])


def type_checking_stubs(body: list[ast.stmt], values: dict[str, Any]) -> Iterator[ast.stmt]:
    """Yields what only type checkers see, its classes marked as not there when running.

    The module's guests are there, though made only when they are asked for.
    """
    for node in module_stubs(body, values):
        if isinstance(node, ast.ClassDef) and node.name not in values['GUESTS']:
            node.decorator_list.insert(0, ast.Name('type_check_only'))
        yield node


def constant_stub(name: str, node: ast.Assign, value: Any) -> ast.stmt:
    """Returns a constant with the type of its value; `__all__` and type aliases as they are."""
    if name == '__all__' or isinstance(value, (*ALIAS, type)):
        return node
    return annotated(name, type_of(value))


def annotated(name: str, annotation: str) -> ast.stmt:
    """Returns `name: annotation`."""
    return ast.parse(f'{name}: {annotation}').body[0]


def type_of(value: Any) -> str:
    """Returns an annotation for a value: its class, or Any if that has no public name."""
    kind = type(value)
    if value is None:
        return 'None'
    if kind.__module__ in ('builtins', MODULE):
        return kind.__name__ + ARGUMENTS.get(kind.__name__, '')
    module = kind.__module__.removeprefix('_')
    is_public = not kind.__name__.startswith('_')
    if isinstance(value, re.Pattern):
        return f're.Pattern[{type(value.pattern).__name__}]'
    return f'{module}.{kind.__name__}' if is_public else 'Any'


def docstring_of(node: Function | ast.ClassDef) -> list[ast.stmt]:
    """Returns the docstring as a statement, or nothing."""
    return node.body[:1] if ast.get_docstring(node) is not None else []


def function_stub(node: Function) -> ast.stmt:
    """Returns a function without what it does; an async generator as a plain function.

    To a type checker `async def` would make it a coroutine that brings a generator.
    """
    # What functools.lru_cache makes would hide the parameters.
    marks = node.decorator_list
    node.decorator_list = [mark for mark in marks if 'lru_cache' not in ast.unparse(mark)]
    node.returns = node.returns or ast.Name('Any')
    if isinstance(node, ast.AsyncFunctionDef) and yields(node.body):
        fields: dict[str, Any] = {field: getattr(node, field, None) for field in node._fields}
        node = ast.FunctionDef(**fields)
    node.body = [*docstring_of(node), PLACEHOLDER]
    return ast.fix_missing_locations(node)


def yields(nodes: Iterable[ast.AST]) -> bool:
    """Whether there is a `yield` that belongs to the function itself, not to one inside it."""
    for node in nodes:
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        inner = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if not inner and yields(ast.iter_child_nodes(node)):
            return True
    return False


def class_stub(node: ast.ClassDef) -> ast.stmt:
    """Returns a class: its values, its methods without what they do, and their attributes."""
    body = docstring_of(node)
    body += [child for child in node.body if isinstance(child, (ast.AnnAssign, ast.Assign))]
    methods = [child for child in node.body if isinstance(child, Function)]
    for method in methods:
        if method.name == '__init__':
            body += [annotated(name, hint) for name, hint in attributes(method)]
    body += map(function_stub, methods)
    node.body = body or [PLACEHOLDER]
    return node


def attributes(method: Function) -> Iterator[tuple[str, str]]:
    """Yields the attributes that `__init__` gives `self`, with their annotations."""
    hints = {argument.arg: argument.annotation for argument in method.args.args}
    for node in method.body:
        match node:
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id='self'), attr=name)):
                yield name, ast.unparse(node.annotation)
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id='self'), attr=name)]):
                yield name, attribute_hint(node.value, hints)


def attribute_hint(value: ast.expr, hints: dict[str, ast.expr | None]) -> str:
    """Returns the annotation of what is assigned: of a parameter or a literal, else Any."""
    match value:
        case ast.Name(id=name) if hint := hints.get(name):
            return ast.unparse(hint)
        case ast.Constant():
            return type_of(value.value)
    return 'Any'


def record_stubs(rows: Iterable[Any]) -> Iterator[str]:
    """Yields the named tuple of each row that has one, and its subclass that expires."""
    for row in rows:
        if row.record is not None:
            name = row.record.__name__
            fields = [f'    {field}: {kind.hint}' for field, kind in row.fields.items()]
            yield '\n'.join([f'class {name}(NamedTuple):', *fields])
            yield EXPIRING_STUB.format(name)


# --- The build ---------------------------------------------------------------


class BuildWithStub(build_py):
    """Copies the module, and writes the stub beside it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # then nothing is built, and the module is its own types
            target = Path(self.build_lib) / STUB
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(make_stub(HERE / f'{MODULE}.py'), encoding='utf-8')

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        stub = [] if self.editable_mode else [str(Path(self.build_lib) / STUB)]
        return [*super().get_outputs(include_bytecode), *stub]


setup(
    name=MODULE,
    version='0.1.0',
    description='Asynchronous DNS resolver for asyncio: pure Python, no dependencies',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license_expression='MIT',
    license_files=['LICENSE'],
    python_requires='>=3.11',
    py_modules=[MODULE],
    cmdclass={'build_py': BuildWithStub},
    entry_points={'console_scripts': [f'{MODULE} = {MODULE}:main']},
    extras_require={
        'aiohttp': ['aiohttp'],
        'https': ['h2'],
        'test': [
            'pytest',
            'hypothesis',
            'uvloop',
            'dnspython[doh]',
            'aiohttp',
            'h2',
            'httpx',
            'trustme',
            'coverage',
        ],
        'lint': ['ruff', 'mypy', 'pyright[nodejs]'],
        'bench': ['aiodns', 'dnspython[doh]', 'h2', 'trustme'],
    },
    keywords='dns asyncio resolver',
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Framework :: AsyncIO',
        'Intended Audience :: Developers',
        'Operating System :: POSIX',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Programming Language :: Python :: 3.14',
        'Topic :: Internet :: Name Service (DNS)',
        'Typing :: Typed',
    ],
)
