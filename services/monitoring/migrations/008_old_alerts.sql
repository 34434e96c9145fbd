-- When an alert ended by the clock: its `ends_ms` is event time, which may lie years back when old data are looked at. Of
-- those that had ended before this was noted, the two are taken for the same.
alter table alerts add column ended_ms BIGINT;
update alerts set ended_ms = ends_ms where ends_ms is not null;
create index alerts_by_end on alerts(ended_ms) where ended_ms is not null;
create index alert_deliveries_by_due on alert_deliveries(due_ms);
