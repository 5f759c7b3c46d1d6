"""The init that --init puts before the command, bound over /sbin/docker-init as Docker does.

docs/decisions/docker-init.md says why it is a binary of its own. `_X86_64` is docker-init.c, built as its first comment
tells, compressed (zlib) and in base 85.
"""

from __future__ import annotations

import base64
import os
import shutil
import zlib

from sampan.errors import Error

_X86_64 = (
    "c-pO0Uu;uV7(eZLM;+aI34$1nxgkx!n6})7hqdcSkL%#va8Zm!9$=8Jy+GsIYJ0BEWMRd+q-V`d^w9@jd@}I`AJp>CmJQ}+VodfR"
    "@FE5kOFA<G(bWWZ{myMWHbT?~Z*tFfzTf$M|4+`ukh<4yv!V89M|%+0&Z4lThg<kgVU+?{AMnCRKn{z$=4g#YQ{Hf(brOk9@yahW"
    "(TV>1*D^zd{YnZy->qdJFg{G!J;Ltd*YF`6RoH_=uaYy1MK?lf$*-2sfypZM;e6jgeLK#N*|7c$2zyk25<~~lyFoYx^iHKv73wZh"
    "s5<N4;PO+BFp_`6`Ef5oR3PTn`hB@d0yPRg#s%cpw+zV(<$g#-WlJi%?H2BQ!t*k#^&1!L95!@2F~&VbT;Z%Cd46!p;e4-3p9lr1"
    "pqQ8IOZyE+4;e5a(YKGuRW&e2U3kicimnaZ&5}HSU~-;zy*L|j75$2#*dPJhpLmK2C|ula0}csX%`HJ5Dr;CNkV4}=?SXZLcEh?z"
    "H`KRY=!WQn`H&M)@ns|8wB32rG)=O6ov;~l<_d2UVb_lg<D+;OAH&CI2wRaC@}aF(+0*skd7XT`6<(EFn8Ak?)@b$`8f_dGNnueU"
    "rF|lFn|vMdh$i<BJ>Qb=^XejW+^cs%!;$U)_BK-JNBVP>DD=1X0WjqS9w5X6*sQ^R?-o=e;n{YH$0G*yi1=I&Z1H)g)$KXL8-B|z"
    "G%W*`(KX9XVY3j}J^3+U<sBA#S!I8y?4Da-5s#~!vPvk6mglI)^_3Xqz<SrWE&hIk)<nW?);{{nG%IgGx(ch-ZmvLWrT*GAkV>Ip"
    "r_WYC<VS@@Hx(-H^P(=oQROuFtGg?obKp}BOaSn(R4dy{dFx(OiE-59!j(O|#)|{6Dur)Nd@i(FGhsEA&8lpg-zO2qY?XO>GmLl>"
    "-Q1r4vRkNs$02>*f_{XHN!SnPZC1_P;4>vKtN&DjMzHC^tqHo(c$cR@;*ENz`-=x8Zd!(O&0yf}OTV7W`bRVI*r-1@l1vBJ=&S0("
    "18dV%VL^#Z{B<qsO{SAHD8-~VvYC_FSV~Ifq_n0bv_uy=vKL3ODy<<7OWK$gmymQKmK^1j)+Q(&)Uv5$E|<)trG%DFt~+}vBjxn?"
    "Dd_~LQYI@Ul36WIGud~#(7wUJptLihjU;1fN$&Oa`gVEc-7h4x5xG~FpKn13`EsXnG)rS6$Vas?ihS8jB1U7#7tf?pTAHH&=i3NB"
    "A4vPnYrn5&Tl&e4^?chS_M2K*Z%gOTR8uzfY4mvewtTv^-}MNu{VwnL7ke%{9#>fF@!yXAIsd-_o0qvJ"
)

# tini under the names that Debian and Docker give it: it speaks the same command line, and the static one works in
# every image. Used where there is no build of ours.
_NAMES = ("tini-static", "docker-init", "tini")


def path(state: str, machine: str) -> str:
    """The host's path of the init, ours or one found there. Error in Docker's words when there is none."""
    if machine == "x86_64":
        return _written(f"{state}/docker-init")
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return found
    raise Error('exec: "docker-init": executable file not found in $PATH')


def _written(target: str) -> str:
    if not os.path.exists(target):
        temporary = f"{target}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o755)
        try:
            os.write(fd, image())
            os.fchmod(fd, 0o755)
        finally:
            os.close(fd)
        os.rename(temporary, target)
    return target


def image() -> bytes:
    """The ELF file for x86-64."""
    return zlib.decompress(base64.b85decode(_X86_64))
