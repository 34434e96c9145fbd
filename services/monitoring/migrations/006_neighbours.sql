-- The state of the comparison of a feature's probes with each other.
create table neighbour_states(
  monitor TEXT NOT NULL,
  feature TEXT NOT NULL,
  state TEXT NOT NULL,
  PRIMARY KEY (monitor, feature)
);
