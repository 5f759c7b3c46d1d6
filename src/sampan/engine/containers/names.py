"""Container ids and the names that Docker's form gives to nameless containers: adjective_noun.

The words are our own: how a boat or its crew may be, and things of rivers, sails and harbours.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

_ADJECTIVES = (
    "able agile airy amber ample ardent autumn azure balmy bold brave breezy brisk bright calm candid careful cheery "
    "clear clever coastal copper coral cosy crisp curious daring dapper deft dewy eager early earnest easy even fair "
    "faithful fearless festive fleet fond free fresh gallant gentle glad gleaming golden grand handy happy hardy hasty "
    "hearty honest hopeful humble ivory jaunty jolly joyful keen kind lively loyal lucid lucky mellow merry mighty "
    "mild misty modest neat nimble noble novel open patient placid playful polite proud quick quiet rapid ready "
    "robust rosy ruddy rustic sandy serene sharp shining silent silver simple sincere sleek smooth snug sober solid "
    "spry steady stout sturdy sunny swift tender tidy tranquil trim true trusty upbeat valiant vivid warm wary "
    "windy wise witty young zesty"
)

_NOUNS = (
    "anchor anemone bamboo barge barnacle beacon bight bollard bosun bow breaker breeze brook buoy cabin canal canoe "
    "cape capstan carp channel chart cleat clipper coast cockle compass coracle cormorant cove coxswain crane creek "
    "current cutter cygnet delta dhow dinghy dock dolphin dory dragonfly drake egret estuary ferry fjord flotilla ford "
    "galleon galley gannet grebe gull halyard harbour hatch haven heron hull inlet islet jetty junk kayak keel kelp "
    "ketch kingfisher lagoon lantern lighthouse lock loon lotus lugger mallard mangrove marlin marsh mast minnow "
    "moorhen mooring mullet narwhal oar osprey otter outrigger paddle pagoda pelican perch petrel pier pike pilot "
    "plover pontoon port prow puffin quay raft rapid reed reef rigging river rowlock rudder sail sailor salmon "
    "sampan sandbar schooner scow seal shoal shore skerry skiff sloop spar spray spring starboard sterlet stern "
    "stork strait sturgeon swan tarpon tern tide tiller towpath trawler trout tugboat wader wake warbler wave weir "
    "wharf wherry willow windlass yawl zephyr"
)


_PAIR = (tuple(_ADJECTIVES.split()), tuple(_NOUNS.split()))


def new_id() -> str:
    """64 hex digits, not all decimal in the first twelve: a short id must not look like a number (it may be used
    as a host name)."""
    while True:
        found = secrets.token_hex(32)
        if not found[:12].isdigit():
            return found


def new_name(is_free: Callable[[str], bool]) -> str:
    """A free name; after a few attempts with a digit appended, as Docker does."""
    for attempt in range(1000):
        name = f"{secrets.choice(_PAIR[0])}_{secrets.choice(_PAIR[1])}"
        if attempt >= 6:
            name += str(secrets.randbelow(10 ** (attempt // 100 + 1)))
        if is_free(name):
            return name
    return new_id()[:12]
