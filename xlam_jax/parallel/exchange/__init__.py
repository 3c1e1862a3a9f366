"""How tokens reach the devices that hold their experts.

P peers split the experts; each device has T tokens with K choices. Collectives of one layer, forward + backward:

none        moves nothing (the experts' matrices, where the mesh splits them: 3 all-gather, 3 reduce-scatter)
gather      all tokens to all peers; a device receives (P - 1) T rows; 3 all-gather and 1 reduce-scatter, and their
            transposes (1 and 2)
all_to_all  tokens to the peers they chose, padded to a fixed size, in rounds; slack T min(P, K) rows a round;
            1 all-reduce, then 4 all-to-all and 3 a round
ragged      the same, unpadded; T min(P, K) rows or less; 1 all-gather, 4 ragged all-to-all and 3

The three moved things are hidden states, ids (no gradient) and weights; one comes back, the weighted sums. In addition
any exchange all-gathers each matrix over `fsdp` (and reduce-scatters its gradient), and all-reduces the sums over
`tensor`, which splits the experts' width. A test holds compiled programs to these numbers.
"""

from xlam_jax.parallel.exchange.entry import EXCHANGES, choose_exchange, exchange_tokens
from xlam_jax.parallel.exchange.shards import FeedForward

__all__ = ["EXCHANGES", "FeedForward", "choose_exchange", "exchange_tokens"]
