"""Orders something as a customer does, and finds it in the list of orders. Needs only Python's standard library."""

import json
import os
import sys
from urllib.parse import urlencode
from urllib.request import urlopen

# `plumb test` says where the ports of the set are: PLUMB_<MACHINE>_<PORT>.
SHOP = "http://" + os.environ["PLUMB_WEB_80"]


def main():
    form = urlencode({"customer": "plumb test", "product": 1, "quantity": 3})
    # The answer is a redirection to the page, which urlopen follows.
    with urlopen(f"{SHOP}/orders", data=form.encode(), timeout=25) as answer:
        print("ordered:", answer.status)
    with urlopen(f"{SHOP}/orders.json", timeout=25) as answer:
        orders = json.load(answer)["orders"]
    print("orders:", orders)
    if not any(order["customer"] == "plumb test" and order["quantity"] == 3 for order in orders):
        sys.exit("the order is not in the list")


if __name__ == "__main__":
    main()
