"""What the tests of the worlds share."""

# Before any test renders: importing Triton, which diffusers does, crashes a process in which Mesa has loaded its LLVM.
import diffusers  # noqa: F401
