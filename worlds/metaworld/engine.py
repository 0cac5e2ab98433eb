"""Meta-World and MuJoCo, imported when needed and made compatible with each other."""

import os
from types import SimpleNamespace

from ..errors import WorldError

_WELD = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0)
"""Data that Meta-World writes into each weld: anchor, relative pose, torque scale."""


def load() -> SimpleNamespace:
    """The modules `mujoco`, `environments` (task name with suffix -> class) and `policies`.

    Raises:
        WorldError: Meta-World is not installed.
    """
    os.environ.setdefault("MUJOCO_GL", "egl")  # before mujoco is imported
    try:
        import mujoco
        from metaworld import policies
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
        from metaworld.sawyer_xyz_env import SawyerMocapBase
    except ImportError as error:
        raise WorldError(
            f"Meta-World needs the package {error.name}: install the extra 'metaworld' (pip install -e '.[metaworld]')"
        ) from error
    if len(_WELD) != mujoco.mjNEQDATA:
        SawyerMocapBase.reset_mocap_welds = _reset_welds
    return SimpleNamespace(mujoco=mujoco, environments=ALL_V3_ENVIRONMENTS, policies=policies)


def _reset_welds(env) -> None:
    """Reset the welds: Meta-World 3.0.0 assigns all data of each, but MuJoCo 3.17 has one more value, which is kept."""
    import mujoco

    model = env.model
    for number in range(model.neq if model.nmocap > 0 else 0):
        if model.eq_type[number] == mujoco.mjtEq.mjEQ_WELD:
            model.eq_data[number, : len(_WELD)] = _WELD
