"""What is changed: by cosmic-ray's operators, and three more for what they leave out. No texts: a log line or a sentence in
other words is no fault that a test should know; SQL is taken apart in tests/engine/test_guards.py.
"""

import ast
import contextlib
import hashlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from parso.python.tree import PythonNode, ReturnStmt

#: One change for each kind of place: a boundary by one, a comparison the other way round, a condition that is not asked.
OPERATORS = (
    "AddNot",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "NumberReplacer",
    "ExceptionReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_USub_UAdd",
    "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_NotEq_Eq",
    "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_Lt_Gt",
    "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_LtE_GtE",
    "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_Gt_Lt",
    "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_GtE_LtE",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBinaryOperator_Mul_Div",
    "ReplaceBinaryOperator_Div_Mul",
    "ReplaceBinaryOperator_Pow_Mul",
)
_Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_FIGURE = re.compile(r"[A-Z_]+(, [A-Z_]+)* = ([\d_., *]|timedelta\(\w+=|\))+")


class _Added(Operator):
    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class ForgetCall(_Added):
    """A call, awaited or not, of which nobody takes the result, is not made."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if (
            isinstance(node, PythonNode)
            and node.type in ("atom_expr", "power")
            and node.parent.type == "simple_stmt"
            and node.get_last_leaf() == ")"
        ):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return parso.parse(node.get_first_leaf().prefix + "pass")


class ForgetResult(_Added):
    """None is given back in its place; False means the same as that."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if isinstance(node, ReturnStmt) and node.children[1].get_code().strip() not in ("None", "False"):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return parso.parse(node.get_first_leaf().prefix + "return None")


class SwapMembership(_Added):
    """`in` becomes `not in`, and the other way round."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "comparison":
            for child in node.children[1::2]:
                if child.get_code().strip() in ("in", "not in"):
                    yield child.start_pos, child.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        at = [i for i, child in enumerate(node.children) if child.get_code().strip() in ("in", "not in")][index]
        node.children[at] = parso.parse(" not in" if node.children[at].get_code().strip() == "in" else " in")
        return node


class Change(NamedTuple):
    """`before` and `after` are the changed lines without their indent; `nth` tells alike ones of one function apart."""

    function: str
    before: str
    after: str
    nth: int
    line: int
    last: int  # of its statement: a call over several lines counts as run where it begins
    source: str

    @property
    def name(self) -> str:
        return f"{self.function}: {self.before} → {self.after}" + (f" #{self.nth}" if self.nth else "")


def changes(source: str) -> list[Change]:
    """Each once, in the order of the file."""
    provider = OperatorProvider()
    operators = [provider[name]() for name in OPERATORS] + [ForgetCall(), ForgetResult(), SwapMembership()]
    found = sorted({(line, after, code) for one in operators for line, after, code in _made(source, one)})
    told: dict[tuple[str, str, str], int] = {}
    result = []
    lines, functions, spans = source.splitlines(), _functions(source), _spans(source)
    for line, after, code in found:
        before, statement = lines[line - 1].strip(), lines[spans[line][0] - 1].strip()
        if statement.startswith(("log.", "log =", "engine.reached(")) or not _compiles(code):
            continue
        if functions[line - 1] == "(module)" and _FIGURE.fullmatch(before):
            continue  # chosen, not reckoned: no test tells 5.0 seconds from 4.0
        key = (functions[line - 1], before, after)
        result.append(Change(*key, told.setdefault(key, 0), *spans[line], code))
        told[key] += 1
    return result


def _made(source: str, operator: Operator) -> Iterator[tuple[int, str, str]]:
    many = sum(1 for node in ast_nodes(get_ast(source)) for _ in operator.mutation_positions(node))
    for nth in range(many):
        code = None
        with contextlib.suppress(AttributeError):  # exceptions that are more than a name are beyond cosmic-ray
            code = mutate_code(source, operator, nth)
        if code is None or code == source:
            continue
        line, after = _difference(source, code)
        text = source.splitlines()[line - 1]
        if type(operator).__name__ == "ReplaceBinaryOperator_Add_Sub" and re.search("[\"']", text + after):
            continue  # two texts are put together
        if "/," in after:
            continue  # the star of a signature is no sign
        yield line, after, code


def _difference(before: str, after: str) -> tuple[int, str]:
    """The first line that is another, and what stands there now."""
    old, new = before.splitlines(), after.splitlines()
    at = next(at for at, line in enumerate(old) if new[at : at + 1] != [line])
    while not old[at].strip():  # with what stood before the decorator
        at += 1
    return at + 1, " ".join(new[at].split()) if len(old) == len(new) else "(gone)"


def marks(source: str) -> dict[str, str]:
    """Of each function and class as `Change.function` names it, and of `(module)`: the same for as long as its code is.
    Comments, layout, docstrings and imports are nothing to it.
    """
    return {name: hashlib.sha256(code.encode()).hexdigest()[:12] for name, code in _told_apart(ast.parse(source), "")}


def _told_apart(node: ast.Module | _Named, name: str) -> Iterator[tuple[str, str]]:
    """What stands in it by a name of its own is told apart, and no part of it."""
    rest = list[ast.stmt]()
    for one in node.body:
        if isinstance(one, _Named):
            yield from _told_apart(one, f"{name}.{one.name}".lstrip("."))
        elif not isinstance(one, ast.Import | ast.ImportFrom) and not _is_text(one):
            rest.append(one)
    node.body = rest
    yield name or "(module)", ast.dump(node)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _spans(source: str) -> dict[int, tuple[int, int]]:
    """Of each line, the first and the last of the smallest statement that it belongs to."""
    spans = {line: (line, line) for line in range(1, len(source.splitlines()) + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                spans[line] = (node.lineno, node.end_lineno or node.lineno)
    return spans


def _functions(source: str) -> list[str]:
    """Of each line, in which function or class it stands."""
    names, stack = [], []
    for line in source.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() and not line.lstrip().startswith((")", "@")):
            while stack and stack[-1][0] >= indent:
                stack.pop()
        if found := re.match(r"\s*(?:async )?(?:def|class) (\w+)", line):
            stack.append((indent, found[1]))
        names.append(".".join(name for _, name in stack) or "(module)")
    return names


def _compiles(code: str) -> bool:
    try:
        compile(code, "changed", "exec")
    except SyntaxError:
        return False
    return True
