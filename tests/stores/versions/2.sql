-- A file of version 2; made once, never changed.
PRAGMA application_id = 1650553447;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE closed (id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE heads (session TEXT PRIMARY KEY, head TEXT NOT NULL);
INSERT INTO "heads" VALUES('s_1','{"session_id":"s_1","epoch":"e","principal":"ann","metadata":{"language":"en"}}');
CREATE TABLE pieces (n INTEGER PRIMARY KEY, session TEXT NOT NULL, turn TEXT NOT NULL, piece TEXT NOT NULL);
INSERT INTO "pieces" VALUES(1,'s_1','t_1','["t_1",8,true,"Once upon ",null,null]');
INSERT INTO "pieces" VALUES(2,'s_1','t_1','["t_1",9,true,"a time",null,null]');
CREATE TABLE replies (
    n INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, request TEXT NOT NULL, reply TEXT NOT NULL,
    UNIQUE (session, request)
);
INSERT INTO "replies" VALUES(1,'s_1','i_t_1','{"type":"input.accepted","seq":1,"turn_id":"t_1","input_id":"i_t_1"}');
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, principal TEXT, fence TEXT NOT NULL, writes INTEGER NOT NULL, seq INTEGER NOT NULL,
    clean INTEGER NOT NULL, created_at REAL NOT NULL, used_at REAL NOT NULL
, name TEXT);
INSERT INTO "sessions" VALUES('s_1','ann','1.a',1,9,0,5.0,10.0,'A greeting');
CREATE TABLE turns (
    session TEXT NOT NULL, id TEXT NOT NULL, position INTEGER NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (session, id)
);
INSERT INTO "turns" VALUES('s_1','t_1',1,'{"turn_id":"t_1","input":{"type":"input.text","id":"i_t_1","text":"hello"},"at":1,"stage":"running","started":true,"heard":[0,null,null,null]}');
CREATE INDEX sessions_by_principal ON sessions (principal, used_at);
CREATE INDEX sessions_by_use ON sessions (used_at);
COMMIT;
