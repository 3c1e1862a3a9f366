"""How tokens reach the devices that hold their experts.

P peers split the experts; each device has T tokens with K choices.

| exchange   | moves                                           | rows a device receives      |
|------------|-------------------------------------------------|-----------------------------|
| none       | the experts' matrices, if the mesh splits them  | 0                           |
| gather     | all tokens to all peers                         | (P - 1) T                   |
| all_to_all | tokens to the peers they chose, in padded parts | slack T min(P, K) per round |
| ragged     | tokens to the peers they chose                  | T min(P, K) at most         |

Three things go there (hidden states, ids, weights; ids have no gradient), one comes back (the weighted sums).
Collectives of one layer:

| exchange   | forward                         | backward                        |
|------------|---------------------------------|---------------------------------|
| none       | nothing, or 3 all-gather        | nothing, or 3 reduce-scatter    |
| gather     | 3 all-gather, 1 reduce-scatter  | 1 all-gather, 2 reduce-scatter  |
| all_to_all | 1 all-reduce, 4 all-to-all per round | 3 all-to-all per round     |
| ragged     | 1 all-gather, 4 ragged all-to-all    | 3 ragged all-to-all        |

Besides, any exchange all-gathers each matrix over `fsdp` and reduce-scatters its gradient, and all-reduces the
sums over `tensor`, which splits the experts' width. A test holds compiled programs to these numbers.
"""

from xlam_jax.parallel.exchange.entry import EXCHANGES, choose_exchange, exchange_tokens
from xlam_jax.parallel.exchange.shards import FeedForward

__all__ = ["EXCHANGES", "FeedForward", "choose_exchange", "exchange_tokens"]
