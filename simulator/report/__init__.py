"""What came of a simulation, for people and for machines: one HTML page, JSON, and two runs side by side.

`to_json` and `from_json` keep a `Result`; `page` draws one and `compare` sets two beside each other, each as one
HTML file that needs nothing else: no script, no network, light and dark, and it prints.

`document` is the JSON. `figures` and `headline` work out what is shown of a run and `difference` what sets two apart;
both are pure arithmetic. `words` writes quantities, `theme` has the colours and the frame of a picture;
`distributions`, `plots` and `timeline` draw, with what `axes` has for all of them; `markup`, `sections` and `overload`
write HTML; `single` and `double` are the two pages. matplotlib is imported when something is drawn and not before.
"""

from __future__ import annotations

from simulator.report.document import BadReport, from_json, to_json
from simulator.report.double import compare
from simulator.report.single import page

__all__ = ["BadReport", "compare", "from_json", "page", "to_json"]
