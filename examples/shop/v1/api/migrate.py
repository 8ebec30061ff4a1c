"""Brings the database's schema up to what app.py expects. Idempotent: runs before every start of the service."""

import os
from pathlib import Path

import psycopg2

# Each entry is applied once, in this order, and never changed afterwards. A release adds to the end.
MIGRATIONS = [
    """
    CREATE TABLE product (
        id          integer PRIMARY KEY,
        name        text NOT NULL,
        description text NOT NULL,
        price_cents integer NOT NULL CHECK (price_cents > 0)
    );
    CREATE TABLE orders (
        id         serial PRIMARY KEY,
        product_id integer NOT NULL REFERENCES product,
        quantity   integer NOT NULL CHECK (quantity BETWEEN 1 AND 99),
        customer   text NOT NULL CHECK (length(customer) BETWEEN 1 AND 60),
        placed_at  timestamptz NOT NULL DEFAULT now()
    );
    INSERT INTO product VALUES
        (1, 'Plumb bob',     'Solid brass, 300 g, turned tip. Finds vertical, every time.', 2450),
        (2, 'Plumb line',    'Twenty metres of braided line that does not twist.',           690),
        (3, 'Spirit level',  'Sixty centimetres, three vials, one truth.',                  3290),
        (4, 'Chalk reel',    'Blue chalk and a straight line in one snap.',                 1180),
        (5, 'Folding rule',  'Two metres of beech that fit a pocket.',                       950),
        (6, 'Mason''s trowel', 'Forged in one piece, with an ash handle.',                  1890);
    """,
]

# Any number will do, as long as nobody else in this database takes it.
LOCK = 20_230_610


def migrate():
    password = Path(os.environ["PASSWORD_FILE"]).read_text()
    connection = psycopg2.connect(os.environ["DATABASE"], password=password)
    # One transaction: an error or a power cut leaves the schema as it was. The lock lets one instance do it at a time.
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        cursor.execute("CREATE TABLE IF NOT EXISTS migration (number integer PRIMARY KEY)")
        cursor.execute("SELECT coalesce(max(number), 0) FROM migration")
        done = cursor.fetchone()[0]
        for number, statements in enumerate(MIGRATIONS, start=1):
            if number > done:
                print(f"migration {number} of {len(MIGRATIONS)}", flush=True)
                cursor.execute(statements)
                cursor.execute("INSERT INTO migration VALUES (%s)", (number,))
    connection.close()


if __name__ == "__main__":
    migrate()
