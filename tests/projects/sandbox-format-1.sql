-- A sandbox file of the first format, as `sqlite3 FILE .dump` writes it.
PRAGMA application_id = 1380275276;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE aliases (
        label TEXT NOT NULL,
        name TEXT NOT NULL,
        user INTEGER NOT NULL,
        PRIMARY KEY (label, name)
    ) WITHOUT ROWID;
CREATE TABLE attribute_types (name TEXT PRIMARY KEY, kind TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "attribute_types" VALUES('plan','string');
CREATE TABLE bodies (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
INSERT INTO "bodies" VALUES(1,X'7B2261747472696275746573223A205B7B2265787465726E616C5F6964223A20227531222C2022706C616E223A202270726F227D5D2C20226576656E7473223A205B7B2265787465726E616C5F6964223A20227531222C20226E616D65223A20227365656E222C202274696D65223A2022323032372D30312D30315430303A30303A30305A227D5D7D');
CREATE TABLE counters (
        requests INTEGER NOT NULL,
        users INTEGER NOT NULL,
        touches INTEGER NOT NULL,
        attributes_written INTEGER NOT NULL,
        data_points INTEGER NOT NULL
    );
INSERT INTO "counters" VALUES(1,1,3,1,2);
CREATE TABLE deprecated_ids (external_id TEXT PRIMARY KEY, user INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        user INTEGER NOT NULL,
        name TEXT NOT NULL,
        time TEXT NOT NULL,
        unix_s REAL NOT NULL,
        app_id TEXT,
        properties TEXT,
        request INTEGER NOT NULL
    );
INSERT INTO "events" VALUES(1,1,'seen','2027-01-01T00:00:00Z',1798761600.0,NULL,NULL,1);
CREATE TABLE purchases (
        id INTEGER PRIMARY KEY,
        user INTEGER NOT NULL,
        product_id TEXT NOT NULL,
        currency TEXT NOT NULL,
        price TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        time TEXT NOT NULL,
        unix_s REAL NOT NULL,
        app_id TEXT,
        properties TEXT,
        request INTEGER NOT NULL
    );
CREATE TABLE push_tokens (
        app_id TEXT NOT NULL,
        token TEXT NOT NULL,
        device_id TEXT NOT NULL,
        user INTEGER NOT NULL,
        PRIMARY KEY (app_id, token)
    ) WITHOUT ROWID;
CREATE TABLE requests (
        number INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        method TEXT NOT NULL,
        path TEXT NOT NULL,
        query TEXT NOT NULL,
        key TEXT,
        status INTEGER,
        answer TEXT NOT NULL,
        records TEXT NOT NULL,
        fault TEXT
    );
INSERT INTO "requests" VALUES(1,1800000001.5,'POST','/users/track','','sha256:b7ad5674',201,'{"message":"success","attributes_processed":1,"events_processed":1}','{"attributes":1,"events":1}',NULL);
CREATE TABLE silent_drops (
        id INTEGER PRIMARY KEY,
        request INTEGER NOT NULL,
        input_array TEXT NOT NULL,
        position INTEGER NOT NULL,
        field TEXT NOT NULL,
        reason TEXT NOT NULL
    );
CREATE TABLE subscriptions (
        user INTEGER NOT NULL,
        group_id TEXT NOT NULL,
        state TEXT NOT NULL,
        request INTEGER NOT NULL,
        PRIMARY KEY (user, group_id)
    ) WITHOUT ROWID;
CREATE TABLE users (
        id INTEGER PRIMARY KEY,
        braze_id TEXT NOT NULL UNIQUE,
        external_id TEXT UNIQUE,
        email TEXT,
        phone TEXT,
        attributes TEXT NOT NULL,
        created_at REAL NOT NULL,
        touched INTEGER NOT NULL
    );
INSERT INTO "users" VALUES(1,'98ae204311e1981e5960cce7','u1',NULL,NULL,'[{},{"plan":["pro",1]}]',1800000001.5,3);
CREATE TABLE windows (
        family TEXT NOT NULL,
        position INTEGER NOT NULL,
        start REAL NOT NULL,
        requests INTEGER NOT NULL,
        PRIMARY KEY (family, position)
    ) WITHOUT ROWID;
INSERT INTO "windows" VALUES('users_track',0,1800000000.0,1);
CREATE INDEX users_by_email ON users (email) WHERE email IS NOT NULL;
CREATE INDEX users_by_phone ON users (phone) WHERE phone IS NOT NULL;
CREATE UNIQUE INDEX aliases_of_user ON aliases (user, label);
CREATE INDEX deprecated_ids_of_user ON deprecated_ids (user);
CREATE INDEX push_tokens_of_user ON push_tokens (user);
CREATE INDEX push_tokens_by_device ON push_tokens (device_id);
CREATE INDEX events_of_user ON events (user);
CREATE INDEX purchases_of_user ON purchases (user);
COMMIT;
