"""How tokens reach the devices that hold their experts.

| exchange   | moves                                                        | rows received by a device |
|------------|--------------------------------------------------------------|---------------------------|
| none       | the experts' matrices, if the mesh splits them               | 0                         |
| gather     | all tokens to all peers; sums back by reduce-scatter         | (P - 1) T                 |
"""

from xlam_jax.parallel.exchange.entry import EXCHANGES, choose_exchange, exchange_tokens
from xlam_jax.parallel.exchange.shards import FeedForward

__all__ = ["EXCHANGES", "FeedForward", "choose_exchange", "exchange_tokens"]
