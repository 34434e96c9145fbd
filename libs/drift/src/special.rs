//! Tail probabilities of the usual distributions, on top of the special functions of `statrs`.

use std::f64::consts::SQRT_2;

use statrs::function::{beta, erf, gamma};

/// Probability that a standard normal variable is above `z`.
pub(crate) fn normal_sf(z: f64) -> f64 {
    0.5 * erf::erfc(z / SQRT_2)
}

/// Probability that a chi-square variable with `dof` degrees of freedom is above `x`.
pub(crate) fn chi2_sf(x: f64, dof: f64) -> f64 {
    if x.is_nan() {
        f64::NAN
    } else if x <= 0.0 {
        1.0
    } else if x == f64::INFINITY {
        0.0
    } else {
        gamma::checked_gamma_ur(dof / 2.0, x / 2.0).unwrap_or(f64::NAN)
    }
}

/// Probability that Student's variable with `dof` degrees of freedom is at least `|t|` away from 0.
pub(crate) fn student_two_sided(t: f64, dof: f64) -> f64 {
    if t.is_infinite() {
        return 0.0;
    }
    beta::checked_beta_reg(dof / 2.0, 0.5, dof / (dof + t * t)).unwrap_or(f64::NAN)
}

#[cfg(test)]
#[expect(clippy::unreadable_literal, reason = "the numbers stand as SciPy printed them")]
mod tests {
    use super::*;

    /// Values of `scipy.stats` 1.17.1: `norm.sf`, `chi2.sf`, `2 * t.sf`.
    #[test]
    fn tails_are_scipys_to_ten_digits() {
        let near = |got: f64, expected: f64| assert!((got / expected - 1.0).abs() < 1e-10, "{got} not {expected}");
        for (z, expected) in NORMAL {
            near(normal_sf(z), expected);
        }
        for (x, dof, expected) in CHI2 {
            near(chi2_sf(x, dof), expected);
        }
        for (t, dof, expected) in STUDENT {
            near(student_two_sided(t, dof), expected);
        }
    }

    const NORMAL: [(f64, f64); 9] = [
        (-3.0, 0.9986501019683699),
        (-0.5, 0.6914624612740131),
        (0.0, 0.5),
        (0.1, 0.460172162722971),
        (1.0, 0.15865525393145707),
        (2.5, 0.006209665325776132),
        (6.0, 9.865876450376946e-10),
        (12.0, 1.776482112077653e-33),
        (30.0, 4.906713927147908e-198),
    ];
    const CHI2: [(f64, f64, f64); 10] = [
        (0.01, 1.0, 0.920344325445942),
        (3.84, 1.0, 0.05004352124870519),
        (60.0, 1.0, 9.485737571073857e-15),
        (0.5, 2.0, 0.7788007830714049),
        (9.3, 4.0, 0.054023050907570806),
        (60.03, 4.0, 2.8590576409185157e-12),
        (300.0, 4.0, 1.083439491947837e-63),
        (95.0, 100.0, 0.6225792918781736),
        (180.0, 100.0, 1.6494985017178526e-06),
        (1.0, 30.0, 1.0),
    ];
    const STUDENT: [(f64, f64, f64); 8] = [
        (0.1, 1.0, 0.936548965138893),
        (2.0, 1.0, 0.2951672353008665),
        (1.96, 7.3, 0.08912287210001851),
        (5.4, 2698.0, 7.244648552999467e-08),
        (7.65, 2600.4, 2.8108358799974995e-14),
        (20.0, 500.0, 8.112003036187767e-66),
        (0.003, 12.0, 0.9976556459782366),
        (4.0, 100000.0, 6.338799755719541e-05),
    ];

    #[test]
    fn the_ends_are_certain() {
        assert_eq!((chi2_sf(0.0, 3.0), chi2_sf(f64::INFINITY, 3.0)), (1.0, 0.0));
        assert_eq!((student_two_sided(0.0, 5.0), student_two_sided(f64::INFINITY, 5.0)), (1.0, 0.0));
    }
}
