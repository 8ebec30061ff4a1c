"""The shop: a page with products, an order form and the latest orders."""

import os
import socket
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from flask import Flask, jsonify, redirect, render_template, request
from psycopg2.extras import RealDictCursor

PASSWORD = Path(os.environ["PASSWORD_FILE"]).read_text()
NOTICE = os.environ.get("NOTICE")
VERSION = "1"

app = Flask(__name__)


@contextmanager
def database():
    """A connection of its own for each request: the database may have been replaced since the last one."""
    connection = psycopg2.connect(os.environ["DATABASE"], password=PASSWORD, cursor_factory=RealDictCursor)
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@app.template_filter("euro")
def euro(cents):
    return f"{cents // 100}.{cents % 100:02} €"


def list_products(cursor):
    cursor.execute("SELECT id, name, description, price_cents FROM product ORDER BY id")
    return cursor.fetchall()


def list_orders(cursor):
    cursor.execute(
        """
        SELECT orders.id, customer, quantity, product.name AS product, quantity * price_cents AS total_cents,
               to_char(placed_at AT TIME ZONE 'UTC', 'DD Mon, HH24:MI') AS placed_at
        FROM orders JOIN product ON product.id = product_id
        ORDER BY orders.id DESC LIMIT 12
        """
    )
    return cursor.fetchall()


def show(problem=None, status=200):
    with database() as cursor:
        products = list_products(cursor)
        orders = list_orders(cursor)
        cursor.execute("SELECT count(*) AS count FROM orders")
        count = cursor.fetchone()["count"]
        cursor.execute("SHOW server_version")
        postgres = cursor.fetchone()["server_version"].split()[0]
    page = render_template(
        "shop.html",
        products=products,
        orders=orders,
        count=count,
        problem=problem,
        version=VERSION,
        notice=NOTICE,
        web=request.headers.get("X-Web-Instance", "no web instance"),
        api=socket.gethostname(),
        postgres=postgres,
    )
    return page, status


@app.get("/")
def index():
    return show()


@app.post("/orders")
def place_order():
    customer = request.form.get("customer", "").strip()
    product_id = request.form.get("product", type=int)
    quantity = request.form.get("quantity", default=1, type=int)
    if not 1 <= len(customer) <= 60 or "\0" in customer:
        return show("Please tell us your name (at most 60 letters).", 400)
    if not 1 <= quantity <= 99:
        return show("You can order 1 to 99 pieces.", 400)
    with database() as cursor:
        if product_id not in [product["id"] for product in list_products(cursor)]:
            return show("We do not sell that.", 400)
        cursor.execute(
            "INSERT INTO orders (product_id, quantity, customer) VALUES (%s, %s, %s)",
            (product_id, quantity, customer),
        )
    # The browser asks for the page anew, so that a reload does not order twice.
    return redirect("/#orders", code=303)


@app.get("/orders.json")
def orders_as_json():
    with database() as cursor:
        return jsonify(version=VERSION, orders=list_orders(cursor))


@app.get("/health")
def health():
    """Healthy is who can answer a real question to the database."""
    with database() as cursor:
        list_products(cursor)
        list_orders(cursor)
    return "ok\n", {"Content-Type": "text/plain"}


@app.errorhandler(psycopg2.OperationalError)
def database_is_away(error):
    app.logger.error("the database does not answer: %s", error)
    return "The shop cannot reach its database. Please try again in a moment.\n", 503, {"Content-Type": "text/plain"}
