//! The figures of two unsorted samples without sorting most of them.
//!
//! Values are counted into some ten thousand buckets by a function of their bits that grows with the value. At the border
//! of two buckets the distance of the distribution functions is known, and within one it moves no further than the values
//! in it can take it. So the area needs nothing but the sum of the values of a bucket wherever the distance cannot change
//! its sign there; and the greatest distance nothing of a bucket that cannot reach what a border has reached. Only the
//! values of the other buckets are gathered and sorted, and of those in which a quantile or an edge of bins lies: a few in
//! a hundred. Everything but the area is the same to the last bit as of sorted samples, the area to about 1e-13 of it.
//!
//! Measured on two sides of a million values: 10 to 15 ns a value, beside 19 for sorting and 12 for walking over both.

use super::{Parts, walk};
use crate::numeric::{BinnedShares, equal_widths, sturges_bins};
use crate::sample::{Moments, between, key, rank, value_of};

/// Below so many values on both sides sorting is as fast.
const LEAST_VALUES: usize = 1 << 15;
/// So many values of both sides say where the buckets should be narrow.
const SAMPLED: usize = 1 << 15;
/// Bits of the first, even cut.
const BIN_BITS: u32 = 14;
/// Values that a bucket should hold, of both sides together.
const PER_BUCKET: usize = 64;

/// One of the even cuts of the range of keys: its buckets are even between the least and the greatest value sampled in it.
struct Bin {
    first: u32,
    shift: u32,
    least: u64,
    span: u64,
}

/// Cuts the range of keys into buckets that follow each other.
struct Grid {
    least: u64,
    shift: u32,
    bins: Vec<Bin>,
    /// The lowest key that each bucket may hold, and the greatest of all.
    starts: Vec<u64>,
}

impl Grid {
    /// `None` where many values are equal: these are sorted quickly.
    fn new(sides: [&[f64]; 2], least: u64, most: u64) -> Option<Self> {
        let every = |side: &[f64]| side.len().div_ceil(SAMPLED / 2).max(1);
        let mut sample: Vec<u64> =
            sides.iter().flat_map(|side| side.iter().step_by(every(side)).map(|value| key(*value))).collect();
        sample.sort_unstable();
        let distinct = 1 + sample.windows(2).filter(|pair| pair[0] < pair[1]).count();
        if distinct < sample.len() / 2 {
            return None;
        }
        let stands_for = (sides[0].len() + sides[1].len()) / sample.len();
        let range = most - least;
        let shift = bits(range).saturating_sub(BIN_BITS);
        let (mut bins, mut starts) = (Vec::new(), Vec::new());
        let mut rest = sample.as_slice();
        for bin in 0..=range >> shift {
            let (here, later) = rest.split_at(rest.iter().take_while(|key| (**key - least) >> shift == bin).count());
            rest = later;
            let start = least + (bin << shift);
            let (low, high) = match here {
                [] => (start, start),
                [only] => (*only, *only),
                [first, .., last] => (*first, *last),
            };
            let span = high - low;
            let wanted = usize::BITS - (here.len() * stands_for / PER_BUCKET).leading_zeros();
            let within = bits(span).saturating_sub(wanted);
            bins.push(Bin { first: starts.len() as u32, shift: within, least: low, span });
            starts.push(start);
            starts.extend((1..=span >> within).map(|place| low + (place << within)));
        }
        starts.push(most);
        Some(Self { least, shift, bins, starts })
    }

    fn bucket(&self, key: u64) -> usize {
        let bin = &self.bins[((key - self.least) >> self.shift) as usize];
        let within = key.saturating_sub(bin.least).min(bin.span);
        bin.first as usize + (within >> bin.shift) as usize
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }
}

const fn bits(number: u64) -> u32 {
    u64::BITS - number.leading_zeros()
}

/// What one side has in a bucket.
#[derive(Clone, Copy)]
struct Cell {
    /// The lowest value that the bucket may hold.
    low: f64,
    /// By how much the values are above it, together.
    above: f64,
    count: u64,
}

/// One side in the buckets.
struct Counted<'a> {
    values: &'a [f64],
    cells: Vec<Cell>,
    /// Values in the buckets before each; the last entry has all.
    before: Vec<u64>,
    /// The gathered values, ascending within each bucket, and where they end.
    gathered: Vec<f64>,
    ends: Vec<u32>,
}

impl<'a> Counted<'a> {
    fn new(grid: &Grid, values: &'a [f64]) -> Self {
        let empty = |start: &u64| Cell { low: value_of(*start), above: 0.0, count: 0 };
        let mut cells: Vec<Cell> = grid.starts[..grid.len()].iter().map(empty).collect();
        for value in values {
            let cell = &mut cells[grid.bucket(key(*value))];
            cell.above += value - cell.low;
            cell.count += 1;
        }
        let mut before = Vec::with_capacity(cells.len() + 1);
        before.push(0);
        let mut sum = 0;
        before.extend(cells.iter().map(|cell| {
            sum += cell.count;
            sum
        }));
        Self { values, cells, before, gathered: Vec::new(), ends: Vec::new() }
    }

    /// The bucket of the value that `rank` others come before.
    fn bucket_of(&self, rank: usize) -> usize {
        self.before.partition_point(|before| *before <= rank as u64) - 1
    }

    /// Gathers and sorts the values of some buckets.
    fn gather(&mut self, grid: &Grid, wanted: &[bool]) {
        const UNWANTED: u32 = u32::MAX;
        let mut total = 0;
        let mut next: Vec<u32> = Vec::with_capacity(wanted.len());
        for (cell, wanted) in self.cells.iter().zip(wanted) {
            next.push(if *wanted { total } else { UNWANTED });
            total += if *wanted { cell.count as u32 } else { 0 };
        }
        let mut keys = vec![0; total as usize];
        for value in self.values {
            let key = key(*value);
            let place = &mut next[grid.bucket(key)];
            if *place != UNWANTED {
                keys[*place as usize] = key;
                *place += 1;
            }
        }
        for ((cell, wanted), end) in self.cells.iter().zip(wanted).zip(&next) {
            if *wanted {
                keys[*end as usize - cell.count as usize..*end as usize].sort_unstable();
            }
        }
        self.gathered = keys.into_iter().map(value_of).collect();
        self.ends = next;
    }

    /// The values of a gathered bucket.
    fn values_of(&self, bucket: usize) -> &[f64] {
        let end = self.ends[bucket] as usize;
        &self.gathered[end - self.cells[bucket].count as usize..end]
    }

    /// The value that `rank` others come before, which is gathered.
    fn at(&self, rank: usize) -> f64 {
        let bucket = self.bucket_of(rank);
        self.values_of(bucket)[rank - self.before[bucket] as usize]
    }

    /// How many values are below an edge, whose bucket is gathered.
    fn below(&self, grid: &Grid, edge: f64) -> u64 {
        let bucket = grid.bucket(key(edge));
        self.before[bucket] + self.values_of(bucket).partition_point(|value| *value < edge) as u64
    }

    /// Shares of the bins between ascending inner edges.
    fn shares(&self, grid: &Grid, edges: &[f64]) -> Vec<f64> {
        let all = self.values.len() as u64;
        let mut ends = vec![0];
        ends.extend(edges.iter().map(|edge| self.below(grid, *edge)));
        ends.push(all);
        ends.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / all as f64).collect()
    }
}

/// What the figures of finite values are made of; `None` where sorting is as fast. The reference must have more distinct
/// values than have bins of their own.
pub(super) fn parts(reference: (&[f64], Moments), current: (&[f64], Moments)) -> Option<Parts> {
    let sides = [reference.0, current.0];
    let total = sides[0].len() + sides[1].len();
    // Places are counted in 32 bits.
    if total < LEAST_VALUES || total > u32::MAX as usize / 2 {
        return None;
    }
    let range = (reference.1.least.min(current.1.least), reference.1.most.max(current.1.most));
    let grid = Grid::new(sides, key(range.0), key(range.1))?;
    let [mut a, mut b] = sides.map(|side| Counted::new(&grid, side));
    let (n, m) = (sides[0].len() as i64, sides[1].len() as i64);

    let gaps: Vec<i64> = a.before.iter().zip(&b.before).map(|(a, b)| *a as i64 * m - *b as i64 * n).collect();
    let at_borders = gaps.iter().map(|gap| gap.unsigned_abs()).max().unwrap_or(0);
    let mut wanted: Vec<bool> = (0..grid.len())
        .map(|bucket| {
            let (of_a, of_b) = (a.cells[bucket].count as i64, b.cells[bucket].count as i64);
            let (low, high) = (gaps[bucket] - of_b * n, gaps[bucket] + of_a * m);
            let can_reach = low.unsigned_abs().max(high.unsigned_abs()) > at_borders;
            (low < 0 && high > 0) || (of_a > 0 && of_b > 0 && can_reach)
        })
        .collect();
    let deciles: Vec<(usize, f64)> = (1..10).map(|decile| rank(sides[0].len(), f64::from(decile) / 10.0)).collect();
    for (below, _) in &deciles {
        // The edge lies between two values, and perhaps in a bucket where the reference has none.
        let above = (below + 1).min(sides[0].len() - 1);
        wanted[a.bucket_of(*below)..=a.bucket_of(above)].fill(true);
    }
    let widths = equal_widths(range, sturges_bins(total));
    for edge in &widths {
        wanted[grid.bucket(key(*edge))] = true;
    }
    let counts = a.cells.iter().zip(&b.cells).zip(&wanted).filter(|(_, wanted)| **wanted);
    let gathered: u64 = counts.map(|((a, b), _)| a.count + b.count).sum();
    if gathered > total as u64 / 2 {
        return None;
    }
    a.gather(&grid, &wanted);
    b.gather(&grid, &wanted);

    let (mut widest, mut area) = (at_borders, 0.0);
    for bucket in 0..grid.len() {
        let (of_a, of_b, gap) = (&a.cells[bucket], &b.cells[bucket], gaps[bucket]);
        let high = value_of(grid.starts[bucket + 1]);
        if wanted[bucket] {
            let walked = walk((a.values_of(bucket), m), (b.values_of(bucket), n), (gap, of_a.low));
            widest = widest.max(walked.widest);
            area += walked.area + walked.gap.unsigned_abs() as f64 * (high - walked.last);
        } else {
            let width = high - of_a.low;
            let left_of = |cell: &Cell| cell.count as f64 * width - cell.above;
            area += (gap as f64 * width + m as f64 * left_of(of_a) - n as f64 * left_of(of_b)).abs();
        }
    }
    let mut edges: Vec<f64> = deciles
        .iter()
        .map(|(below, share)| between(a.at(*below), a.at((below + 1).min(sides[0].len() - 1)), *share))
        .collect();
    edges.dedup();
    let inner = &widths[1..widths.len() - 1];
    Some(Parts {
        deciles: BinnedShares { reference: a.shares(&grid, &edges), current: b.shares(&grid, &edges), edges },
        binned: BinnedShares { reference: a.shares(&grid, inner), current: b.shares(&grid, inner), edges: widths },
        widest,
        area,
    })
}
