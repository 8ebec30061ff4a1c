"""Notes, kept in SQLite on the volume."""

import sqlite3

from flask import Flask, jsonify, request

app = Flask(__name__)


def database():
    connection = sqlite3.connect("/var/lib/notes/notes.db")
    connection.execute("CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    return connection


@app.get("/notes")
def notes():
    with database() as connection:
        return jsonify([text for (text,) in connection.execute("SELECT text FROM note ORDER BY id")])


@app.post("/notes")
def add():
    with database() as connection:
        connection.execute("INSERT INTO note (text) VALUES (?)", (request.get_json()["text"],))
    return "", 201
