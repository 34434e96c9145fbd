-- How far each check has come. Its windows belong to the specification they were computed under.
create table check_states(
  monitor TEXT NOT NULL,
  name TEXT NOT NULL,
  spec TEXT NOT NULL,
  first_end_ms BIGINT NOT NULL,
  -- End of the newest window that was computed; before the first window, less than its end.
  closed_ms BIGINT NOT NULL,
  -- Alarms begin after this time: what was kept before the check was made alarms nobody.
  alarm_after_ms BIGINT NOT NULL,
  -- Moves with every write: two replicas never write the same windows.
  revision BIGINT NOT NULL,
  PRIMARY KEY (monitor, name)
);

create table check_windows(
  monitor TEXT NOT NULL,
  name TEXT NOT NULL,
  end_ms BIGINT NOT NULL,
  figures TEXT NOT NULL,
  PRIMARY KEY (monitor, name, end_ms)
);

-- Hours whose data changed after the windows of checks may have been computed.
create table check_marks(
  monitor TEXT NOT NULL,
  hour_ms BIGINT NOT NULL,
  n BIGINT NOT NULL,
  PRIMARY KEY (monitor, hour_ms)
);

-- Rows of a reference that does not move, as they were when it was first used.
create table check_references(
  monitor TEXT NOT NULL,
  from_ms BIGINT NOT NULL,
  to_ms BIGINT NOT NULL,
  sample TEXT NOT NULL,
  PRIMARY KEY (monitor, from_ms, to_ms)
);

create table alarms(
  id TEXT PRIMARY KEY,
  monitor TEXT NOT NULL,
  name TEXT NOT NULL,
  since_ms BIGINT NOT NULL,
  until_ms BIGINT,
  alarm TEXT NOT NULL
);
create index alarms_by_time on alarms(monitor, since_ms);
create index alarms_open on alarms(monitor, name) where until_ms is null;
