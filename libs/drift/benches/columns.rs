//! CPU time of the drift statistics: `cargo bench -p fishy-drift --bench columns -- [ROWS] [COLUMNS]`.
//!
//! Draws numeric columns of both sides (default 1,000,000 rows, 20 columns, three kinds of distributions), and takes for
//! each the four usual figures exactly, from unsorted values in memory; then the same from sketches that are fed value by
//! value. CPU time is that of this process, which is not disturbed by what else the machine does (but by its caches).

#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

use std::hint::black_box;

use fishy_drift::{
    CategoryCounts, CategoryTable, ColumnDrift, Correction, DistinctSketch, Dle, KsMethod, LogBase, QuantileSketch,
    Sample, chi_square, domain_classifier, energy_distance, ks, psi, psi_of_shares, wasserstein,
};

/// User and system time of this process, in seconds.
fn cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    // Linux counts in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}

/// CPU seconds of `work`, and what it gave.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let before = cpu_s();
    let result = black_box(work());
    (cpu_s() - before, result)
}

struct Drawn(u64);

impl Drawn {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) as f64 + 0.5) / 4_294_967_296.0
    }

    fn normal(&mut self) -> f64 {
        let (radius, angle) = ((-2.0 * self.uniform().ln()).sqrt(), std::f64::consts::TAU * self.uniform());
        radius * angle.cos()
    }

    /// Normal, lognormal, or normal in steps of 0.01, by turns.
    fn column(&mut self, rows: usize, kind: usize, shift: f64) -> Vec<f64> {
        let value = |normal: f64| match kind % 3 {
            0 => normal + shift,
            1 => (normal + shift).exp(),
            _ => ((normal + shift) * 100.0).round() / 100.0,
        };
        (0..rows).map(|_| value(self.normal())).collect()
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let rows = numbers.first().copied().unwrap_or(1_000_000);
    let columns = numbers.get(1).copied().unwrap_or(20);
    let mut drawn = Drawn(1);
    let sides: Vec<(Vec<f64>, Vec<f64>)> = (0..columns)
        .map(|kind| {
            let shift = if kind % 2 == 0 { 0.0 } else { 0.1 };
            (drawn.column(rows, kind, 0.0), drawn.column(rows, kind, shift))
        })
        .collect();
    let values = (2 * rows * columns) as f64;
    let report = |name: &str, seconds: f64| {
        println!("{name:44} {seconds:7.2} CPU s  {:7.1} ns a value", seconds / values * 1e9);
    };
    println!("{columns} numeric columns, {rows} rows a side");

    let (sorting, samples) = timed(|| {
        let sample = |values: &Vec<f64>| Sample::new(values).ok();
        sides.iter().filter_map(|(a, b)| Some((sample(a)?, sample(b)?))).collect::<Vec<_>>()
    });
    let (walking, drifts) = timed(|| samples.iter().map(|(a, b)| ColumnDrift::of(a, b)).collect::<Vec<_>>());
    report("sort both sides", sorting);
    report("PSI, KS, Wasserstein, JS of sorted sides", walking);
    report("all four together", sorting + walking);

    let (seconds, _) = timed(|| sides.iter().map(|(a, b)| psi(a, b)).collect::<Vec<_>>());
    report("alone, from unsorted: PSI", seconds);
    let (seconds, _) = timed(|| samples.iter().map(|(a, b)| ks(a, b, KsMethod::Auto).statistic).collect::<Vec<_>>());
    report("alone, of sorted sides: KS", seconds);
    let (seconds, _) = timed(|| samples.iter().map(|(a, b)| wasserstein(a, b)).collect::<Vec<_>>());
    report("alone, of sorted sides: Wasserstein", seconds);
    let (seconds, _) = timed(|| samples.iter().map(|(a, b)| energy_distance(a, b)).collect::<Vec<_>>());
    report("alone, of sorted sides: energy distance", seconds);

    let sketch = |values: &[f64]| {
        let mut sketch = QuantileSketch::new(1024, 1).ok()?;
        for value in values {
            sketch.push(*value);
        }
        Some(sketch)
    };
    let (seconds, sketched) = timed(|| {
        let drift = |(a, b): &(Vec<f64>, Vec<f64>)| {
            let (a, b) = (sketch(a)?, sketch(b)?);
            let edges: Vec<f64> = (1..10).filter_map(|decile| a.quantile(f64::from(decile) / 10.0)).collect();
            Some((psi_of_shares(&a.shares(&edges), &b.shares(&edges)), a.distances(&b)?))
        };
        sides.iter().filter_map(drift).collect::<Vec<_>>()
    });
    report("PSI, KS, Wasserstein by sketches of 1024", seconds);
    println!("  {:.1} million values a second", values / seconds / 1e6);
    let worst = drifts.iter().zip(&sketched).map(|(exact, (_, (near, _)))| (exact.ks.statistic - near).abs());
    println!("  largest error of KS {:.4}", worst.fold(0.0, f64::max));
    let (seconds, _) = timed(|| {
        let mut sketch = DistinctSketch::new(12).ok()?;
        for value in sides.iter().flat_map(|(a, b)| a.iter().chain(b)) {
            sketch.push_number(*value);
        }
        Some(sketch.estimate())
    });
    report("distinct values", seconds);

    let species = ["cod", "halibut", "salmon", "trout", "wrasse"];
    let texts: Vec<&str> = (0..2 * rows).map(|_| species[(drawn.uniform() * 5.0) as usize]).collect();
    let (seconds, _) = timed(|| {
        let counts = |texts: &[&str]| CategoryCounts::of(texts.iter().map(|text| Some(*text))).ok();
        let table = CategoryTable::new(&counts(&texts[..rows])?, &counts(&texts[rows..])?).ok()?;
        Some((table.psi(), table.js_distance(LogBase::Natural), chi_square(&table, Correction::Yates)))
    });
    println!(
        "one categorical column of five texts: {seconds:.2} CPU s, {:.1} ns a value",
        seconds / rows as f64 / 2.0 * 1e9
    );

    let features: Vec<Vec<f64>> = (0..10).map(|kind| drawn.column(100_000, kind, 0.0)).collect();
    let truth: Vec<f64> = features[0].iter().map(|value| value * (1.0 + drawn.normal() * 0.1)).collect();
    let (seconds, _) = timed(|| Dle::fit(&features, &features[0], &truth, 10_000).ok());
    println!("DLE fitted to 100,000 rows of 10 features (four losses): {seconds:.2} CPU s");
    let (seconds, _) = timed(|| domain_classifier(&features, &features, 1).ok());
    println!("domain classifier on 2 x 100,000 rows of 10 features: {seconds:.2} CPU s");
}
