-- The tables of package sqlite. All times are nanoseconds of the wall clock since 1970.

-- One row: the version of these tables, and the numbers given last.
CREATE TABLE taskgen_meta (
	one     INTEGER PRIMARY KEY CHECK (one = 1),
	version INTEGER NOT NULL,
	back    INTEGER NOT NULL, -- grows: ids, deliveries, and places at the end of ready lists
	front   INTEGER NOT NULL  -- falls: places at the head of ready lists
);
INSERT INTO taskgen_meta VALUES (1, 0, 0, 0);

-- The queues that ever held a run, and how many of their runs are delayed or ready.
CREATE TABLE taskgen_queues (
	name    TEXT PRIMARY KEY,
	waiting INTEGER NOT NULL
) WITHOUT ROWID;

-- The live runs.
CREATE TABLE taskgen_runs (
	id         INTEGER PRIMARY KEY,
	queue      TEXT NOT NULL,
	state      INTEGER NOT NULL, -- 0 delayed, 1 ready, 2 in flight, 3 unreadable
	kind       INTEGER NOT NULL,
	rank       INTEGER NOT NULL, -- the priority, negated
	place      INTEGER NOT NULL, -- delayed: when it is due; ready, in flight: its order
	own        TEXT,             -- the run's id if another run with it is a duplicate
	deliveries INTEGER NOT NULL,
	session    INTEGER,          -- in flight: of whom
	delivery   INTEGER,          -- in flight: no other delivery has this number
	envelope   BLOB NOT NULL
);
CREATE INDEX taskgen_delayed ON taskgen_runs (queue, place, id) WHERE state = 0;
CREATE INDEX taskgen_ready ON taskgen_runs (queue, kind, rank, place) WHERE state = 1;
CREATE INDEX taskgen_flight ON taskgen_runs (session, queue, place) WHERE state = 2;
CREATE UNIQUE INDEX taskgen_own ON taskgen_runs (queue, own) WHERE own IS NOT NULL;

CREATE TABLE taskgen_sessions (
	id   INTEGER PRIMARY KEY,
	ends INTEGER NOT NULL -- of its lease
);

-- Deliveries that were recovered from a session, until it has tried to finish them.
CREATE TABLE taskgen_lost (
	session  INTEGER NOT NULL,
	delivery INTEGER NOT NULL,
	PRIMARY KEY (session, delivery)
) WITHOUT ROWID;

-- The ticks claimed last, by the name of the task.
CREATE TABLE taskgen_ticks (
	queue TEXT NOT NULL,
	name  TEXT NOT NULL,
	at    INTEGER NOT NULL,
	PRIMARY KEY (queue, name)
) WITHOUT ROWID;
