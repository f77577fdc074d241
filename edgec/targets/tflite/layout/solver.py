"""Choose a layout for every node so that as few bytes as possible are transposed.

The cost of an assignment is the sum over values of the transposes that their users need beyond the stored layout, each
distinct one counted once.  A forward sweep gives a first assignment; local sweeps and moves of whole connected regions
lower it until nothing improves.  Both are deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from edgec.ir.graph import Graph, Node, Value
from edgec.targets.tflite.layout.permutation import Permutation, identity, same_bytes
from edgec.targets.tflite.layout.rules import Choice, LayoutRule

RuleOf = Callable[[Node], LayoutRule]

TRANSPOSE_OVERHEAD = 16384
"""What one more TRANSPOSE costs beyond its elements, in elements (its call, and the fusions it prevents)."""
RESHAPE_COST = 16
SWEEPS = 8
REGION_LIMIT = 400
MOVE_LIMIT = 4000


class _Solver:
    def __init__(
        self,
        graph: Graph,
        rule_of: RuleOf,
        inputs: Mapping[Value, Permutation],
        outputs: Iterable[tuple[Value, Permutation]],
    ):
        self.nodes = list(graph.nodes)
        self.rules = {node: rule_of(node) for node in self.nodes}
        self.choice: dict[Node, Choice] = {}
        self.inputs = inputs
        self.users: dict[Value, list[tuple[Node, int]]] = {}
        self.wanted: dict[Value, list[Permutation]] = {}
        for value, permutation in outputs:
            self.wanted.setdefault(value, []).append(permutation)
        for node in self.nodes:
            for position, operand in enumerate(node.inputs):
                if operand is not None and operand.const is None:
                    self.users.setdefault(operand, []).append((node, position))

    def stored(self, value: Value) -> Permutation | None:
        """The layout of a value under the current assignment; None for constants and values not reached yet."""
        producer = value.producer
        if producer is None:
            return self.inputs.get(value)
        chosen = self.choice.get(producer)
        return None if chosen is None else chosen.outputs[value.index]

    def required(self, value: Value) -> list[Permutation]:
        """What the users that have a choice, and the graph's outputs, want of a value."""
        found = list(self.wanted.get(value, ()))
        for node, position in self.users.get(value, ()):
            chosen = self.choice.get(node)
            if chosen is not None and position < len(chosen.inputs):
                permutation = chosen.inputs[position]
                if permutation is not None:
                    found.append(permutation)
        return found

    def value_cost(self, value: Value) -> int:
        have = self.stored(value)
        if have is None or value.shape is None or len(have) < 2:
            return 0
        shape = [dim if isinstance(dim, int) else 64 for dim in value.shape]
        cost = 0
        distinct: list[Permutation] = []
        for want in self.required(value):
            if want == have or want in distinct:
                continue
            if same_bytes(shape, have, want):
                cost += RESHAPE_COST
                distinct.append(want)
                continue
            if any(same_bytes(shape, want, other) for other in distinct):
                continue
            distinct.append(want)
            size = 1
            for dim in shape:
                size *= dim
            cost += size + TRANSPOSE_OVERHEAD
        return cost

    def touched(self, node: Node) -> list[Value]:
        return [v for v in dict.fromkeys((*node.inputs, *node.outputs)) if v is not None and v.const is None]

    def candidates(self, node: Node) -> list[Choice]:
        rule = self.rules[node]
        default = rule.default(node)
        current = self.choice.get(node) or default
        found: dict[Choice, None] = {current: None, default: None} if node in self.choice else {}
        for position, value in enumerate(node.inputs):
            if value is None or value.const is not None:
                continue
            have = self.stored(value)
            if have is not None:
                option = rule.from_input(node, current, position, have)
                if option is not None:
                    found.setdefault(option)
        for position, value in enumerate(node.outputs):
            for want in self.required(value):
                option = rule.from_output(node, current, position, want)
                if option is not None:
                    found.setdefault(option)
        found.setdefault(default)  # last the first time, so that a node rather stays with what feeds it
        return list(found)

    def improve(self, node: Node) -> bool:
        values = self.touched(node)
        before = self.choice.get(node)
        best, best_cost = before, None if before is None else sum(map(self.value_cost, values))
        for option in self.candidates(node):
            self.choice[node] = option
            cost = sum(map(self.value_cost, values))
            if best_cost is None or cost < best_cost:
                best, best_cost = option, cost
        assert best is not None
        self.choice[node] = best
        return best is not before

    def run(self) -> dict[Node, Choice]:
        for node in self.nodes:
            self.improve(node)
        self._sweep()
        moves = 0
        improved = True
        while improved and moves < MOVE_LIMIT:
            improved = False
            for node in self.nodes:
                for value in node.inputs:
                    if value is None or value.const is not None or not self.value_cost(value):
                        continue
                    moves += 1
                    if self._move(value, node) and moves < MOVE_LIMIT:
                        improved = True
            for value in self.wanted:
                if self.value_cost(value) and self._pull(value, self.wanted[value][0]):
                    improved = True
            if improved:
                self._sweep()
        return self.choice

    def _sweep(self) -> None:
        for round_number in range(SWEEPS):
            order = self.nodes[::-1] if round_number % 2 == 0 else self.nodes
            changed = [self.improve(node) for node in order]
            if not any(changed):
                break

    def _move(self, value: Value, user: Node) -> bool:
        """Try to make a region downstream accept the stored layout, or one upstream produce the wanted one."""
        position = next(i for i, operand in enumerate(user.inputs) if operand is value)
        chosen = self.choice[user]
        want = chosen.inputs[position] if position < len(chosen.inputs) else None
        have = self.stored(value)
        if want is None or have is None or want == have:
            return False
        pushed = self.rules[user].from_input(user, chosen, position, have)
        if pushed is not None and self._try(user, pushed):
            return True
        return self._pull(value, want)

    def _pull(self, value: Value, want: Permutation) -> bool:
        producer = value.producer
        if producer is None or self.stored(value) == want:
            return False
        pulled = self.rules[producer].from_output(producer, self.choice[producer], value.index, want)
        return pulled is not None and self._try(producer, pulled)

    def _try(self, seed: Node, option: Choice) -> bool:
        """Give a node another layout, let its neighbours follow as far as they can, keep it if the cost goes down."""
        if option == self.choice[seed]:
            return False
        old: dict[Node, Choice] = {}
        fresh: dict[Node, Choice] = {seed: option}
        pending = [seed]
        while pending and len(fresh) < REGION_LIMIT:
            node = pending.pop(0)
            chosen = fresh[node]
            for position, value in enumerate(node.inputs):
                if value is None or value.const is not None or value.producer is None:
                    continue
                want, producer = chosen.inputs[position], value.producer
                if want is None or producer in fresh or producer not in self.choice:
                    continue
                if self.choice[producer].outputs[value.index] == want:
                    continue
                follow = self.rules[producer].from_output(producer, self.choice[producer], value.index, want)
                if follow is not None:
                    fresh[producer] = follow
                    pending.append(producer)
            for index, value in enumerate(node.outputs):
                for user, position in self.users.get(value, ()):
                    if user in fresh or self.choice[user].inputs[position] in (None, chosen.outputs[index]):
                        continue
                    follow = self.rules[user].from_input(user, self.choice[user], position, chosen.outputs[index])
                    if follow is not None:
                        fresh[user] = follow
                        pending.append(user)
        values = list(dict.fromkeys(value for node in fresh for value in self.touched(node)))
        before = sum(map(self.value_cost, values))
        for node, chosen in fresh.items():
            old[node] = self.choice[node]
            self.choice[node] = chosen
        if sum(map(self.value_cost, values)) < before:
            return True
        self.choice.update(old)
        return False


def solve(
    graph: Graph,
    rule_of: RuleOf,
    inputs: Mapping[Value, Permutation] | None = None,
    outputs: Iterable[tuple[Value, Permutation]] | None = None,
) -> dict[Node, Choice]:
    """The layout of every node.

    Args:
        rule_of: the layout rule of a node.
        inputs: how graph inputs are stored; ONNX's own layout where not given.
        outputs: how graph outputs must be handed out; ONNX's own layout by default.
    """
    given = dict(inputs or {})
    for value in graph.inputs:
        if value.shape is not None:
            given.setdefault(value, identity(len(value.shape)))
    wanted = (
        list(outputs)
        if outputs is not None
        else [(value, identity(len(value.shape))) for value in graph.outputs if value.shape is not None]
    )
    return _Solver(graph, rule_of, given, wanted).run()
