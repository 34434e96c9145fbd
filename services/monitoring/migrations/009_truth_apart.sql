-- A true value is written once, where true values are: with what is asked of it together with its prediction, so that labels
-- that come late for predictions all over a large store touch none of their rows. These columns are null until the prediction
-- is there.
alter table ground_truth add column deployment TEXT;
alter table ground_truth add column version TEXT;
alter table ground_truth add column time_ms BIGINT;
alter table ground_truth add column output DOUBLE PRECISION;
alter table ground_truth add column is_corrected BIGINT NOT NULL DEFAULT 0;
update ground_truth set deployment = p.deployment, version = p.version, time_ms = p.time_ms, output = p.output,
  is_corrected = p.is_corrected
from predictions p where p.prediction_id = ground_truth.prediction_id and p.arrived_ms is not null;
drop index predictions_by_arrival;
drop index predictions_labelled;
alter table predictions drop column value;
alter table predictions drop column arrived_ms;
alter table predictions drop column is_corrected;
create index ground_truth_by_arrival on ground_truth(deployment, version, arrived_ms, time_ms) where deployment is not null;
create index ground_truth_by_time on ground_truth(deployment, time_ms) where deployment is not null;
