"""Builds the distribution, and the types of its one module.

A single module cannot ship its types (PEP 561 wants a package), so the wheel has a stub package
beside it. It is made here from the module whenever a wheel is built, and is not kept.
"""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
MODULE = 'aiodnsresolver'
STUB = Path(f'{MODULE}-stubs', '__init__.pyi')
PLACEHOLDER = ast.Expr(ast.Constant(...))
RECORD_IMPORTS = 'from typing import Self, type_check_only\n'  # the module has all the others
RECORD = """\
class {0}(NamedTuple):
    {1}
class {0}ExpiresAt({0}):
    expires_at: float
    def __new__(cls, value: Iterable[Any], expires_at: float) -> Self: ...
"""


# --- The stub ----------------------------------------------------------------
#
# The public names, and what their annotations name in turn. mypy's stubgen would
# save little of this: it keeps what is private, does not know the records or the
# types of attributes, and takes an async generator for a coroutine.


def make_stub(path: Path) -> str:
    """Returns the stub of a module: its public names, without docstrings."""
    values = runpy.run_path(str(path), run_name=MODULE)
    records, types = record_stubs(values)
    made = definitions(ast.parse(RECORD_IMPORTS + records), values)
    found = definitions(ast.parse(path.read_text(encoding='utf-8')), values) | made
    add_overloads(found['Resolve'], types)
    wanted = ['__all__', *values['__all__'], *values['GUESTS'], *made]
    needed = set()
    while wanted:  # each definition is added once
        node = found.get(wanted.pop())
        if node is not None and node not in needed:
            needed.add(node)
            names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
            wanted += [name.id for name in names if isinstance(name.ctx, ast.Load)]
    nodes = [node for node in dict.fromkeys(found.values()) if node in needed]
    text = '\n'.join(map(ast.unparse, nodes)) + '\n'
    # To mypy an enum without members, which others are made from, is a mistake in a stub only.
    mnemonic = 'class Mnemonic(IntEnum):'
    return text.replace(mnemonic, f'{mnemonic}  # type: ignore[misc]')


def definitions(tree: ast.Module | ast.If, values: dict[str, Any]) -> dict[str, ast.stmt]:
    """Returns the statements of a module by the names they define, as a stub has them."""
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found |= {alias.asname or alias.name: node for alias in names}
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = node
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                found[node.name] = stub_of(node, values)
            case ast.If(test=ast.Name(id='TYPE_CHECKING')):
                found |= definitions(node, values)
    return found


def stub_of(node: ast.stmt, values: dict[str, Any]) -> ast.stmt:
    """Returns a function or a class without what it does; any other statement as it is."""
    if isinstance(node, ast.ClassDef):
        body = [each for each in node.body if not isinstance(each, ast.Expr)]
        node.body = [*attributes(body), *[stub_of(each, values) for each in body]] or [PLACEHOLDER]
        if any(
            ast.unparse(base) == 'Protocol' for base in node.bases
        ):  # a public one is in no module
            node.decorator_list.append(ast.Name('type_check_only', ast.Load()))
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        is_generator = any(isinstance(each, ast.Yield) for each in ast.walk(node))
        node.body = [PLACEHOLDER]
        for defaults in (node.args.defaults, node.args.kw_defaults):
            for at, default in enumerate(defaults):
                value = values.get(default.id) if isinstance(default, ast.Name) else None
                if isinstance(value, (int, str)):  # a constant, which may be private
                    defaults[at] = ast.Constant(value)
        if is_generator:  # `async def` would make it a coroutine that returns a generator
            return ast.FunctionDef(**vars(node))
    return node


def attributes(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields what `__init__` stores of its parameters, with their annotations.

    What the class itself has an annotation for is another type there.
    """
    declared = {ast.unparse(each.target) for each in body if isinstance(each, ast.AnnAssign)}
    for method in body:
        if isinstance(method, ast.FunctionDef) and method.name == '__init__':
            targets = [each for each in ast.walk(method) if isinstance(each, ast.Attribute)]
            stored = {each.attr for each in targets if isinstance(each.ctx, ast.Store)}
            for each in [*method.args.args, *method.args.kwonlyargs]:
                if each.arg in stored - declared and each.annotation is not None:
                    yield ast.AnnAssign(ast.Name(each.arg, ast.Store()), each.annotation, None, 1)


def record_stubs(values: dict[str, Any]) -> tuple[str, dict[str, list[str]]]:
    """Returns the classes that the table of records makes, and types by the class of answers."""
    expiring = {kind.__name__: answer.__name__ for kind, answer in values['EXPIRING'].items()}
    classes = ''
    types: dict[str, list[str]] = {}
    for number, row in values['LAYOUTS'].items():
        hints = {field: kind.hint for field, kind in row.fields.items()}
        if len(hints) > 1:
            answer = f'{row.mnemonic}ExpiresAt'
            fields = [f'{field}: {hint}' for field, hint in hints.items()]
            classes += RECORD.format(row.mnemonic, '\n    '.join(fields))
        else:
            [hint] = hints.values()
            kind, bracket, value = hint.removesuffix(', ...]').partition('[')
            answer = f'{expiring[kind]}[{value}]' if bracket else expiring[kind]
        if number not in values['UNRESOLVABLE']:
            types.setdefault(answer, []).append(f'TYPES.{row.mnemonic}')
    return classes, types


def add_overloads(resolve: Any, types: dict[str, list[str]]) -> None:
    """Puts an overload for each class of answers before the last, which is for any type."""
    last = ast.unparse(resolve.body[-1])
    overloads = [
        last.replace('qtype: int', f'qtype: Literal[{", ".join(group)}]').replace('Any', answer)
        for answer, group in types.items()
    ]
    resolve.body[:-1] = ast.parse('\n'.join(overloads)).body


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
        'idna': ['idna>=3.7'],  # CVE-2024-3651
        'progress': ['tqdm'],
        'test': [
            'pytest',
            'hypothesis',
            'uvloop',
            'dnspython[doh]',
            'aiohttp',
            'aiosmtpd',
            'aiosmtplib',
            'asyncpg',
            'distributed',
            'h2',
            'httpx',
            'idna>=3.7',
            'matplotlib',
            'redis',
            'tornado',
            'tqdm',
            'trustme',
            'coverage',
            'mypy',
            'pyright[nodejs]',
            'setuptools>=77',  # makes the stub
        ],
        'lint': ['ruff', 'mypy'],
        'bench': [
            'aiodns',
            'aiohttp',
            'blastdns',
            'dnspython[doh]',
            'h2',
            'matplotlib',
            'tqdm',
            'trustme',
            'uvloop',
        ],
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
