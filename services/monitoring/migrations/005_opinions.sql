create table opinions(
  seq SERIAL_KEY,
  id TEXT NOT NULL UNIQUE,
  prediction_id TEXT NOT NULL,
  by_whom TEXT NOT NULL,
  opinion TEXT NOT NULL
);
create index opinions_of on opinions(prediction_id);
