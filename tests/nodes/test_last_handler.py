"""Whatever happens inside a node: one line, with the traceback in the log, and nothing that has a meaning hidden."""

import inspect
import logging

import pytest
import torch

pytestmark = pytest.mark.comfyui


@pytest.fixture
def handler(module):
    return module("nodes.last_handler")


@pytest.fixture
def failing(handler):
    """A node class whose `execute` raises what it is given."""

    def make(error):
        class Node:
            @classmethod
            def execute(cls, text: str, number: int = 3):
                raise error

        return handler.guarded(Node)

    return make


def test_every_node_has_the_handler(comfy, module, handler):
    for node in module("nodes").NODES:
        assert inspect.unwrap(node.execute.__func__) is not node.execute.__func__, node
        assert node.execute.__func__.__globals__ is vars(handler), node


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("frames"), "unexpected KeyError: 'frames'; the traceback is in ComfyUI's log"),
        (IndexError(), "unexpected IndexError; the traceback is in ComfyUI's log"),
        (TypeError("first\n  second\x1b[31m"), "unexpected TypeError: first second\\x1b[31m; the traceback"),
        (ValueError("y" * 5000), "unexpected ValueError: yyy"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "unexpected RuntimeError: mat1 and mat2"),
        (OSError(28, "No space left on device", "/out/a.json"), "No space left on device (/out/a.json); the traceback"),
        (RecursionError("too deep"), "unexpected RecursionError: too deep"),
        (AssertionError("x"), "unexpected AssertionError: x"),
    ],
)
def test_an_error_that_nobody_foresaw_is_one_line(failing, handler, caplog, error, line):
    with caplog.at_level(logging.ERROR, "visual_planner"), pytest.raises(handler.UnexpectedError) as caught:
        failing(error).execute("a")
    text = str(caught.value)
    assert text.startswith(line)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 450
    assert caught.value.__cause__ is error
    assert [record.exc_info[1] for record in caplog.records] == [error]


def test_what_has_a_meaning_passes_unchanged(failing, module):
    import comfy.model_management as management

    for error in (
        module("visual_planner.errors").TrajectoryError("points must be at least 2, got 1"),
        management.InterruptProcessingException(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory"),
        MemoryError(),
        KeyboardInterrupt(),
    ):
        with pytest.raises(type(error)) as caught:
            failing(error).execute("a")
        assert caught.value is error


def test_a_result_and_its_signature_stay(handler):
    class Node:
        @classmethod
        def execute(cls, text: str, number: int = 3):
            return cls, text, number

    before = inspect.signature(Node.execute)
    handler.guarded(Node)
    assert inspect.signature(Node.execute) == before
    assert Node.execute(text="a") == (Node, "a", 3)

    class Clone(Node):  # as ComfyUI makes one for a run
        pass

    assert Clone.execute("b", number=4) == (Clone, "b", 4)


def test_a_real_node_that_breaks(comfy, module, monkeypatch):
    grids = module("nodes.grids")

    def broken(*arguments, **settings):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(grids, "GridLayout", broken)
    with pytest.raises(ValueError, match="unexpected ZeroDivisionError: division by zero; the traceback is in"):
        comfy.call("VisualPlannerGridLayout", rows=2, cols=3, order="raster")
