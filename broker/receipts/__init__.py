"""What became of an item, and what would: receipts of what was sent, and trials of what was not.

`counts` is what the data path adds to, some numbers for each of the latest items. `census` asks engine
and ledgers where an item stands with everybody who follows its channel, and is taken when somebody asks
and when an item ends. `reports` joins the two, and keeps them over a restart. `trial` says what an item
would meet if it were published now, and leaves no trace.
"""

from __future__ import annotations
