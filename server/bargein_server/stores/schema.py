"""Schema of the SQLite store, with its migrations.

`PRAGMA user_version` holds the version. A new version of the records or tables appends a script to
`MIGRATIONS`; tests/stores/versions holds a file of every version.
"""

from __future__ import annotations

APPLICATION_ID = 0x62617267
"""Marks the file as one of ours (`PRAGMA application_id`)."""

_VERSION_1 = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, principal TEXT, fence TEXT NOT NULL, writes INTEGER NOT NULL, seq INTEGER NOT NULL,
    clean INTEGER NOT NULL, created_at REAL NOT NULL, used_at REAL NOT NULL
);
CREATE INDEX sessions_by_principal ON sessions (principal, used_at);
CREATE INDEX sessions_by_use ON sessions (used_at);
CREATE TABLE heads (session TEXT PRIMARY KEY, head TEXT NOT NULL);
CREATE TABLE turns (
    session TEXT NOT NULL, id TEXT NOT NULL, position INTEGER NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (session, id)
);
CREATE TABLE replies (
    n INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, request TEXT NOT NULL, reply TEXT NOT NULL,
    UNIQUE (session, request)
);
CREATE TABLE pieces (n INTEGER PRIMARY KEY, session TEXT NOT NULL, turn TEXT NOT NULL, piece TEXT NOT NULL);
CREATE TABLE closed (id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""
# Pieces have no index: those of all sessions are appended to the same few pages, which a commit writes. With
# an index by session each commit would write a page for each session, five times the processor time.

_VERSION_2 = "ALTER TABLE sessions ADD COLUMN name TEXT;"

MIGRATIONS: tuple[str, ...] = (_VERSION_1, _VERSION_2)
"""Scripts; the one at index n brings version n to version n + 1."""

# Each statement gets one JSON array, and so runs as one step of SQLite, without the interpreter's lock: rows
# that are bound one by one would wait for that lock once each, behind a busy event loop.

REFUSED = """
SELECT json_group_array(json_array(w.key, CASE
    WHEN c.id IS NOT NULL THEN 'closed'
    WHEN s.id IS NOT NULL AND s.fence <> json_extract(w.value, '$[1]')
        AND CAST(s.fence AS INTEGER) >= CAST(json_extract(w.value, '$[1]') AS INTEGER) THEN 'fenced'
    ELSE 'behind' END))
FROM json_each(?) w
LEFT JOIN sessions s ON s.id = json_extract(w.value, '$[0]')
LEFT JOIN closed c ON c.id = json_extract(w.value, '$[0]')
WHERE c.id IS NOT NULL
   OR (s.id IS NULL AND NOT json_extract(w.value, '$[3]'))
   OR (s.id IS NOT NULL AND s.fence <> json_extract(w.value, '$[1]')
       AND (NOT json_extract(w.value, '$[3]')
            OR CAST(s.fence AS INTEGER) >= CAST(json_extract(w.value, '$[1]') AS INTEGER)))
   OR (s.id IS NOT NULL AND NOT json_extract(w.value, '$[3]')
       AND s.writes <> json_extract(w.value, '$[2]'))
"""

PIECES_OF = """
SELECT session, turn, n FROM pieces WHERE session IN (SELECT value FROM json_each(?)) ORDER BY n
"""

ADD_SESSIONS = """
INSERT INTO sessions (id, fence, writes, seq, clean, principal, created_at, used_at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), 0, json_extract(value, '$[4]'), json_extract(value, '$[5]'),
       json_extract(value, '$[6]')
FROM json_each(?) WHERE true
ON CONFLICT (id) DO UPDATE SET fence = excluded.fence, writes = excluded.writes, seq = excluded.seq,
       clean = 0, principal = excluded.principal, used_at = excluded.used_at
"""

UPDATE_SESSIONS = """
UPDATE sessions SET writes = w.writes, seq = w.seq FROM (
    SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[2]') AS writes,
           json_extract(value, '$[3]') AS seq
    FROM json_each(?)
) w WHERE sessions.id = w.id
"""

USE_SESSIONS = """
UPDATE sessions SET used_at = w.used_at, clean = w.clean FROM (
    SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS used_at,
           json_extract(value, '$[2]') AS clean
    FROM json_each(?)
) w WHERE sessions.id = w.id
"""

SET_HEADS = """
INSERT INTO heads (session, head)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?) WHERE true
ON CONFLICT (session) DO UPDATE SET head = excluded.head
"""

SET_TURNS = """
INSERT INTO turns (session, id, position, record)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]')
FROM json_each(?) WHERE true
ON CONFLICT (session, id) DO UPDATE SET position = excluded.position, record = excluded.record
"""

DROP_TURNS = """
DELETE FROM turns WHERE (session, id) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
)
"""

DROP_PIECES = "DELETE FROM pieces WHERE n IN (SELECT value FROM json_each(?))"

ADD_REPLIES = """
INSERT INTO replies (session, request, reply)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
FROM json_each(?) WHERE true
ON CONFLICT (session, request) DO NOTHING
"""

ADD_PIECES = """
INSERT INTO pieces (session, turn, piece)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
FROM json_each(?)
"""

PARTS = ("heads", "turns", "replies")
"""Tables with parts of sessions, with an index on the column `session`."""

LIST = """
SELECT s.id, s.principal, s.created_at, s.used_at,
    coalesce((SELECT CASE WHEN json_valid(record) THEN substr(json_extract(record, '$.input.text'), 1, 120)
              END FROM turns WHERE session = s.id ORDER BY position LIMIT 1), ''),
    (SELECT count(*) FROM turns WHERE session = s.id), s.name
FROM sessions s WHERE {whose} AND (s.used_at, s.id) < (?, ?) ORDER BY s.used_at DESC, s.id DESC LIMIT ?
"""

TRIM_REPLIES = """
DELETE FROM replies WHERE n IN (
    SELECT n FROM (SELECT n, row_number() OVER (PARTITION BY session ORDER BY n DESC) AS age FROM replies)
    WHERE age > ?
)
"""
