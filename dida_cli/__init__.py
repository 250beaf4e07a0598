"""dida: guided content transfer between two image domains.

    import dida_cli

    editor = dida_cli.load("avatars-smile-glasses")
    editor.transfer("face.png", guide_b="glasses.png").save("edited.png")

`load` gives an `Editor`, of which `transfer` and `remove` give an `Edit`. What cannot be done is
raised as a `DidaError` of one line. torch is loaded with the first model.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dida_cli.editor import Edit, Editor, load
    from dida_cli.errors import DidaError

__version__ = "0.1.0"
__all__ = ["DidaError", "Edit", "Editor", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dida_cli import editor

    return getattr(editor, name)
