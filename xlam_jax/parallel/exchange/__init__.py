"""How tokens reach the devices that hold their experts.

P peers split the experts; each device has T tokens with K choices. Collectives of one layer, forward + backward:

| exchange   | moves                                          | rows a device receives | collectives               |
|------------|------------------------------------------------|------------------------|---------------------------|
| none       | the experts' matrices, if the mesh splits them | 0                      | none (3 all-gather + 3 reduce-scatter for the matrices) |
| gather     | all tokens to all peers                        | (P - 1) T              | 3 all-gather, 1 reduce-scatter + the transposes (1 and 2) |
| all_to_all | tokens to the peers they chose, padded to a fixed size, in rounds | slack T min(P, K) a round | 1 all-reduce, then 4 all-to-all + 3 a round |
| ragged     | the same, unpadded                             | T min(P, K) or less    | 1 all-gather, 4 ragged all-to-all + 3 |

The three moved things are hidden states, ids (no gradient) and weights; one comes back, the weighted sums. In addition
any exchange all-gathers each matrix over `fsdp` (and reduce-scatters its gradient), and all-reduces the sums over
`tensor`, which splits the experts' width. A test holds compiled programs to these numbers.
"""

from xlam_jax.parallel.exchange.entry import EXCHANGES, choose_exchange, exchange_tokens
from xlam_jax.parallel.exchange.shards import FeedForward

__all__ = ["EXCHANGES", "FeedForward", "choose_exchange", "exchange_tokens"]
