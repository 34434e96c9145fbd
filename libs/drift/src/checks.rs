mod clock;
mod gap;
mod quiet;
mod settings;
mod spike;
mod stuck;
mod usual;

pub use settings::{CheckSettings, ClockSettings, Quantity, QuietSettings, SpikeSettings, StuckSettings};

use clock::Clock;
use gap::Gap;
use quiet::Quiet;
use serde::{Deserialize, Serialize};
use spike::Spike;
use stuck::Stuck;
use usual::Usual;

/// What is wrong with a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Readings do not arrive, or arrive without a value.
    Missing,
    /// Readings lie outside what is physically possible.
    Range,
    /// The same value for longer than this sensor has reason to.
    Stuck,
    /// A few readings far from their neighbours, which agree with one another.
    Spike,
    /// Readings that jitter around one value where they used to go up and down.
    Quiet,
    /// The logger's clock jumped.
    Clock,
    /// A probe has drifted away from its neighbours.
    Apart,
}

impl FindingKind {
    /// The name used on the wire and in metrics, for example `stuck`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Range => "range",
            Self::Stuck => "stuck",
            Self::Spike => "spike",
            Self::Quiet => "quiet",
            Self::Clock => "clock",
            Self::Apart => "apart",
        }
    }
}

/// One fault of one series, in event time.
///
/// A missing, range, stuck, quiet or apart finding is reported twice: when it is noticed (`until_ms` is `None`, and
/// `since_ms` lies before the reading that made it certain) and when it has ended. A spike and a jump of the clock are
/// reported once, when they are over. The pair
/// of `kind` and `since_ms` names a finding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// Time of the first faulty reading, milliseconds since the epoch.
    pub since_ms: i64,
    /// Time of the last faulty reading; `None` while the fault goes on.
    pub until_ms: Option<i64>,
    /// The value of the first faulty reading; `None` for a missing one.
    pub value: Option<f64>,
    /// Faulty readings so far.
    pub readings: u32,
}

/// A fault while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Episode {
    kind: FindingKind,
    since_ms: i64,
    last_ms: i64,
    value: Option<f64>,
    readings: u32,
}

impl Episode {
    const fn going_on(&self) -> Finding {
        let Self { kind, since_ms, value, readings, .. } = *self;
        Finding { kind, since_ms, until_ms: None, value, readings }
    }

    const fn ended(&self) -> Finding {
        Finding { until_ms: Some(self.last_ms), ..self.going_on() }
    }
}

/// Checks the readings of one sensor as they come, in event time.
///
/// The state is small (about 2 KB as JSON, whatever the length of the series) and can be stored and read back between any
/// two readings. A reading that is not later than the one before is ignored and counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SensorChecks {
    settings: CheckSettings,
    last_ms: Option<i64>,
    late: u64,
    gap: Gap,
    out_of_range: Option<Episode>,
    stuck: Stuck,
    spike: Spike,
    #[serde(default)]
    quiet: Quiet,
    #[serde(default)]
    clock: Clock,
    #[serde(default)]
    usual: Usual,
    #[serde(skip)]
    suspicion: Suspicion,
}

/// How unlike the reading of a working probe the latest reading is. Each part is 1 where a finding would be made, or where a
/// reading is far from everything of the last month; 0 where nothing is odd.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Suspicion {
    /// Outside the possible range: 2 at its edge, 3 one width of the range further.
    pub range: f64,
    /// How much of the time has passed after which resting at one value is a fault.
    pub stuck: f64,
    /// Distance from the median of the last month, in five interquartile ranges.
    pub unusual: f64,
    /// Distance from the readings just before, in what makes a spike.
    pub spike: f64,
}

impl Suspicion {
    /// All parts together: what readings are ranked by.
    pub fn total(&self) -> f64 {
        self.range + self.stuck + self.unusual + self.spike
    }
}

impl SensorChecks {
    /// Checks with these settings, before the first reading.
    pub fn new(settings: CheckSettings) -> Self {
        Self {
            settings,
            last_ms: None,
            late: 0,
            gap: Gap::default(),
            out_of_range: None,
            stuck: Stuck::default(),
            spike: Spike::default(),
            quiet: Quiet::default(),
            clock: Clock::default(),
            usual: Usual::default(),
            suspicion: Suspicion::default(),
        }
    }

    /// Takes the next reading and gives what it made certain: faults that were noticed and faults that ended, mostly none.
    ///
    /// `None` and values that are not finite are missing readings.
    pub fn push(&mut self, time_ms: i64, value: Option<f64>) -> Vec<Finding> {
        // A clock that was set back makes times come twice: late readings are no news but for this.
        let jumped = self.clock.push(&self.settings.clock, time_ms);
        if self.last_ms.is_some_and(|last_ms| time_ms <= last_ms) {
            self.late += 1;
            return jumped.into_iter().collect();
        }
        self.last_ms = Some(time_ms);
        let value = value.filter(|value| value.is_finite());

        let mut findings: Vec<Finding> = jumped.into_iter().collect();
        self.suspicion = Suspicion::default();
        findings.extend(self.gap.push(&self.settings, time_ms, value.is_some()));
        if let Some(value) = value {
            let is_in_range = self.settings.allows(value);
            findings.extend(self.push_range(time_ms, value, is_in_range));
            let longest_step_ms = self.gap.longest_step_ms(&self.settings);
            findings.extend(self.stuck.push(&self.settings.stuck, time_ms, value, is_in_range, longest_step_ms));
            if is_in_range {
                findings.extend(self.spike.push(&self.settings.spike, time_ms, value));
                findings.extend(self.quiet.push(&self.settings.quiet, time_ms, value));
            }
            if self.settings.suspicion {
                self.suspicion = Suspicion {
                    range: self.settings.beyond(value),
                    stuck: self.stuck.ratio(&self.settings.stuck, time_ms),
                    unusual: self.usual.push(time_ms, value),
                    spike: if is_in_range { self.spike.ratio(&self.settings.spike) } else { 0.0 },
                };
            }
        }
        findings
    }

    /// The faults that go on now.
    pub fn open(&self) -> Vec<Finding> {
        let range = self.out_of_range.map(|episode| episode.going_on());
        [self.gap.open(), range, self.stuck.open(), self.quiet.open()].into_iter().flatten().collect()
    }

    /// How odd the latest reading is, where [`CheckSettings::suspicion`] asks for it; nothing of a missing one.
    pub const fn suspicion(&self) -> Suspicion {
        self.suspicion
    }

    /// Event time of the latest reading.
    pub const fn last_ms(&self) -> Option<i64> {
        self.last_ms
    }

    /// Readings ignored because they were not later than the one before.
    pub const fn late(&self) -> u64 {
        self.late
    }

    fn push_range(&mut self, time_ms: i64, value: f64, is_in_range: bool) -> Option<Finding> {
        if is_in_range {
            return self.out_of_range.take().map(|episode| episode.ended());
        }
        if let Some(episode) = &mut self.out_of_range {
            episode.last_ms = time_ms;
            episode.readings = episode.readings.saturating_add(1);
            return None;
        }
        let kind = FindingKind::Range;
        let episode = Episode { kind, since_ms: time_ms, last_ms: time_ms, value: Some(value), readings: 1 };
        self.out_of_range = Some(episode);
        Some(episode.going_on())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    /// Hourly readings of something that moves like a tide, in steps of 0.01.
    fn tide(hour: i64) -> f64 {
        ((20.0 + (hour as f64 * 0.506).sin() + 0.3 * (hour as f64 * 0.262).cos()) * 100.0).round() / 100.0
    }

    /// Runs the checks over `hours` hours of tide as `change` leaves them.
    fn run(hours: i64, change: impl Fn(i64, f64) -> Option<f64>) -> (SensorChecks, Vec<Finding>) {
        let mut checks = SensorChecks::new(CheckSettings::for_quantity(Quantity::Temperature));
        let findings =
            (0..hours).flat_map(|hour| checks.push(hour * HOUR_MS, change(hour, tide(hour)))).collect::<Vec<_>>();
        (checks, findings)
    }

    fn finding(kind: FindingKind, hours: (i64, Option<i64>), value: Option<f64>, readings: u32) -> Finding {
        Finding { kind, since_ms: hours.0 * HOUR_MS, until_ms: hours.1.map(|hour| hour * HOUR_MS), value, readings }
    }

    #[test]
    fn clean_readings_give_nothing() {
        let (checks, findings) = run(2_000, |_, value| Some(value));
        assert_eq!((findings, checks.open(), checks.late()), (Vec::new(), Vec::new(), 0));
    }

    #[test]
    fn a_stuck_probe_is_noticed_after_a_day_and_its_end_is_reported() {
        let (_, findings) = run(500, |hour, value| Some(if (200..260).contains(&hour) { 17.03 } else { value }));
        let stuck: Vec<_> = findings.into_iter().filter(|f| f.kind == FindingKind::Stuck).collect();
        assert_eq!(
            stuck,
            [
                finding(FindingKind::Stuck, (200, None), Some(17.03), 24),
                finding(FindingKind::Stuck, (200, Some(259)), Some(17.03), 60),
            ]
        );
        let (checks, _) = run(240, |hour, value| Some(if hour >= 200 { 17.03 } else { value }));
        assert_eq!(checks.open(), [finding(FindingKind::Stuck, (200, None), Some(17.03), 40)]);
    }

    #[test]
    fn a_probe_that_drops_out_while_stuck_is_still_stuck() {
        let (checks, _) =
            run(240, |hour, value| if hour < 200 { Some(value) } else { (hour % 7 != 0).then_some(17.03) });
        assert!(checks.open().iter().any(|finding| finding.kind == FindingKind::Stuck), "{:?}", checks.open());
    }

    #[test]
    fn a_sensor_that_often_rests_is_given_more_time() {
        // Rests 20 hours at a time, then 29; and then for good: almost three times 20 hours pass, since memory fades.
        let resting = |hour: i64, rest: i64| if hour.rem_euclid(30) < rest { 0.0 } else { tide(hour) };
        let (_, findings) = run(1_000, |hour, _| Some(if hour < 900 { resting(hour, 20) } else { resting(hour, 29) }));
        assert!(findings.iter().all(|finding| finding.kind != FindingKind::Stuck), "{findings:?}");
        let (_, findings) = run(1_000, |hour, _| Some(if hour < 900 { resting(hour, 20) } else { 0.0 }));
        let stuck = findings.iter().find(|finding| finding.kind == FindingKind::Stuck).unwrap();
        assert!((50..=58).contains(&stuck.readings), "{stuck:?}");
    }

    #[test]
    fn a_spike_is_reported_once_it_is_over() {
        let (_, findings) = run(400, |hour, value| Some(if hour == 300 || hour == 301 { value + 15.0 } else { value }));
        assert_eq!(findings, [finding(FindingKind::Spike, (300, Some(301)), Some(tide(300) + 15.0), 2)]);
    }

    #[test]
    fn a_step_to_a_new_level_is_no_spike() {
        let (_, findings) = run(600, |hour, value| Some(if hour >= 300 { value + 15.0 } else { value }));
        assert_eq!(findings, []);
    }

    #[test]
    fn readings_out_of_range_are_reported_and_do_not_disturb_the_rest() {
        let (_, findings) = run(400, |hour, value| Some(if (300..303).contains(&hour) { 50.0 } else { value }));
        assert_eq!(
            findings,
            [
                finding(FindingKind::Range, (300, None), Some(50.0), 1),
                finding(FindingKind::Range, (300, Some(302)), Some(50.0), 3),
            ]
        );
    }

    #[test]
    fn missing_values_and_missing_rows_are_the_same_gap() {
        let expected = [
            finding(FindingKind::Missing, (50, None), None, 3),
            finding(FindingKind::Missing, (50, Some(54)), None, 5),
        ];
        let (_, findings) = run(100, |hour, value| (!(50..55).contains(&hour)).then_some(value));
        assert_eq!(findings, expected);
        let (_, findings) = run(100, |hour, value| Some(if hour == 52 { f64::NAN } else { value }));
        assert_eq!(findings, [], "one lost reading is nothing to report");

        let mut checks = SensorChecks::new(CheckSettings::default());
        let present = (0..100).filter(|hour| !(50..55).contains(hour));
        let findings: Vec<_> = present.flat_map(|hour| checks.push(hour * HOUR_MS, Some(tide(hour)))).collect();
        assert_eq!(findings, [finding(FindingKind::Missing, (50, Some(54)), None, 5)]);
    }

    #[test]
    fn a_sensor_that_never_spoke_is_missing() {
        let (checks, findings) = run(10, |_, _| None);
        assert_eq!(findings, [finding(FindingKind::Missing, (0, None), None, 3)]);
        assert_eq!(checks.open(), [finding(FindingKind::Missing, (0, None), None, 10)]);
    }

    #[test]
    fn late_and_repeated_readings_change_nothing_but_their_count() {
        let (mut checks, _) = run(100, |_, value| Some(value));
        let before = checks.clone();
        assert_eq!(checks.push(50 * HOUR_MS, Some(900.0)), []);
        assert_eq!(checks.push(99 * HOUR_MS, Some(900.0)), []);
        assert_eq!(checks.late(), 2);
        assert_eq!(SensorChecks { late: 0, ..checks }, before);
    }

    #[test]
    fn times_at_the_ends_of_time_do_no_harm() {
        let mut checks = SensorChecks::new(CheckSettings::default());
        for time_ms in [i64::MIN, i64::MIN + 1, -1, 0, 1, 2, 3, 4, i64::MAX - 1, i64::MAX] {
            checks.push(time_ms, Some(7.0));
        }
        assert_eq!(checks.last_ms(), Some(i64::MAX));
    }

    fn careful() -> CheckSettings {
        CheckSettings {
            quiet: QuietSettings { enabled: true, ..QuietSettings::default() },
            clock: ClockSettings { enabled: true, ..ClockSettings::default() },
            ..CheckSettings::for_quantity(Quantity::Temperature)
        }
    }

    #[test]
    fn a_probe_that_only_jitters_has_gone_quiet() {
        let jitter = |hour: i64| 20.0 + (hour % 3) as f64 * 0.01;
        let mut checks = SensorChecks::new(careful());
        let reading = |hour: i64| if (600..720).contains(&hour) { jitter(hour) } else { tide(hour) };
        let findings: Vec<_> = (0..1_000).flat_map(|hour| checks.push(hour * HOUR_MS, Some(reading(hour)))).collect();
        let quiet: Vec<_> = findings.iter().filter(|finding| finding.kind == FindingKind::Quiet).collect();
        assert_eq!(quiet.len(), 2, "{findings:?}");
        assert_eq!((quiet[0].since_ms, quiet[0].until_ms), (600 * HOUR_MS, None));
        assert_eq!((quiet[1].until_ms, quiet[1].readings), (Some(719 * HOUR_MS), 120));
    }

    #[test]
    fn a_clock_that_jumps_is_found_and_gaps_are_no_jumps() {
        let quarter = HOUR_MS / 4;
        let run = |times: &[i64]| -> Vec<Finding> {
            let mut checks = SensorChecks::new(careful());
            let all = times.iter().flat_map(|time_ms| checks.push(*time_ms, Some(tide(time_ms / quarter))));
            all.filter(|finding| finding.kind == FindingKind::Clock).collect()
        };
        let regular: Vec<i64> = (0..100).map(|at| at * quarter).collect();
        assert_eq!(run(&regular), []);
        let with_gap: Vec<i64> = (0..100).filter(|at| !(40..53).contains(at)).map(|at| at * quarter).collect();
        assert_eq!(run(&with_gap), []);
        let jittering: Vec<i64> = (0..100).map(|at| at * quarter + at * 37_777 % 40_000).collect();
        assert_eq!(run(&jittering), []);
        let one_late: Vec<i64> = (0..100).map(|at| at * quarter + if at == 50 { 400_000 } else { 0 }).collect();
        assert_eq!(run(&one_late), []);
        // Set forward by seven minutes: other minutes from then on.
        let forward: Vec<i64> = (0..100).map(|at| at * quarter + if at >= 50 { 420_000 } else { 0 }).collect();
        let found = run(&forward);
        assert_eq!((found.len(), found[0].since_ms), (1, 50 * quarter + 420_000));
        // Set back by an hour: eight readings in one hour, sorted by their times.
        let mut back: Vec<i64> = (0..100).map(|at| if at >= 50 { (at - 4) * quarter } else { at * quarter }).collect();
        back.sort_unstable();
        let found = run(&back);
        assert_eq!((found.len(), found[0].since_ms), (1, 46 * quarter), "{found:?}");
    }

    #[test]
    fn suspicion_is_one_where_a_finding_is_made() {
        let settings = CheckSettings { suspicion: true, ..CheckSettings::for_quantity(Quantity::Temperature) };
        let mut checks = SensorChecks::new(settings);
        let mut last = Vec::new();
        for hour in 0..600 {
            let value = match hour {
                400 => tide(hour) + 15.0,
                450..490 => 20.5,
                500 => 60.0,
                550 => 20.0 + 12.0,
                _ => tide(hour),
            };
            let found = checks.push(hour * HOUR_MS, Some(value));
            last.push((checks.suspicion(), found));
        }
        let calm = last[300..400].iter().map(|(suspicion, _)| suspicion.total()).fold(0.0, f64::max);
        assert!(calm < 1.0, "{calm}");
        assert!(last[400].0.spike > 1.0 && last[400].0.unusual > 1.0, "{:?}", last[400].0);
        let stuck = last.iter().position(|(_, found)| found.iter().any(|f| f.kind == FindingKind::Stuck)).unwrap();
        assert!(last[stuck].0.stuck >= 1.0 && last[stuck - 1].0.stuck < 1.0, "{:?}", last[stuck].0);
        assert!(last[500].0.range > 2.0 && last[500].0.range < 3.0);
    }

    #[test]
    fn state_that_was_stored_before_the_newer_checks_is_read() {
        let (checks, _) = run(100, |_, value| Some(value));
        let mut stored = serde_json::to_value(&checks).unwrap();
        for field in ["quiet", "clock", "usual"] {
            stored.as_object_mut().unwrap().remove(field).unwrap();
        }
        for field in ["quiet", "clock", "suspicion"] {
            stored["settings"].as_object_mut().unwrap().remove(field).unwrap();
        }
        let read: SensorChecks = serde_json::from_value(stored).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), serde_json::to_value(checks).unwrap());
    }

    #[test]
    fn stored_state_goes_on_where_it_stopped() {
        let faulty = |hour: i64| match hour {
            200..260 => Some(17.03),
            300 => Some(90.0),
            320 => Some(tide(hour) + 12.0),
            340..350 => None,
            _ => Some(tide(hour)),
        };
        let (_, expected) = run(400, |hour, _| faulty(hour));
        let mut text =
            serde_json::to_string(&SensorChecks::new(CheckSettings::for_quantity(Quantity::Temperature))).unwrap();
        let mut findings = Vec::new();
        for hour in 0..400 {
            let mut checks: SensorChecks = serde_json::from_str(&text).unwrap();
            findings.extend(checks.push(hour * HOUR_MS, faulty(hour)));
            text = serde_json::to_string(&checks).unwrap();
        }
        assert_eq!(findings, expected);
        assert!(expected.len() >= 7 && text.len() < 6_000, "{} findings, {} bytes", expected.len(), text.len());
    }
}
