"""MuJoCo, imported once with an OpenGL backend that this machine really has.

MuJoCo chooses its backend while it is imported, and importing it with a backend whose library is missing fails. So the
choice is made here beforehand: EGL, otherwise OSMesa, otherwise none (physics still works, but rendering does not).
Every other module takes ``mujoco`` from here.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys

from .errors import SimulationError

GL_HELP = (
    "rendering needs a software OpenGL, and none works here: install Debian's "
    "libegl1 libegl-mesa0 libgl1-mesa-dri libgl1 (EGL), or libosmesa6 with MUJOCO_GL=osmesa"
)


def _egl_works() -> bool:
    """Say whether libEGL is installed and offers a device (a GPU or Mesa's software renderer)."""
    name = ctypes.util.find_library("EGL")
    if not name:
        return False
    try:
        library = ctypes.CDLL(name)
        library.eglGetProcAddress.restype = ctypes.c_void_p
        address = library.eglGetProcAddress(b"eglQueryDevicesEXT")
        if not address:
            return False
        count = ctypes.c_int(0)
        query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(address)
        return bool(query(0, None, ctypes.byref(count))) and count.value > 0
    except (OSError, AttributeError):
        return False


def choose_gl_backend() -> str:
    """Return the backend to ask MuJoCo for: "egl", "osmesa" or "disable" (Linux), "" elsewhere (MuJoCo's default)."""
    if os.environ.get("MUJOCO_GL"):
        return os.environ["MUJOCO_GL"]
    if not sys.platform.startswith("linux"):
        return ""
    if _egl_works():
        return "egl"
    if ctypes.util.find_library("OSMesa"):
        return "osmesa"
    return "disable"


def _import_mujoco():
    backend = choose_gl_backend()
    before = os.environ.get("MUJOCO_GL")
    if backend:
        os.environ["MUJOCO_GL"] = backend
    try:
        import mujoco
    except ImportError as error:
        if error.name == "mujoco":
            raise SimulationError("the simulation needs the package mujoco: pip install 'mujoco>=3.17,<4'") from error
        raise SimulationError(f"MuJoCo cannot be imported with MUJOCO_GL={backend!r} ({error}); {GL_HELP}") from error
    except (AttributeError, OSError, RuntimeError) as error:
        raise SimulationError(f"MuJoCo cannot be imported with MUJOCO_GL={backend!r} ({error}); {GL_HELP}") from error
    finally:
        # The environment belongs to the process that imports us (ComfyUI), so restore it.
        if before is None:
            os.environ.pop("MUJOCO_GL", None)
    return mujoco


mujoco = _import_mujoco()
