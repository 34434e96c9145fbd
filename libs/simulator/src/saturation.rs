/// Oxygen that water in equilibrium with moist air at 1013.25 hPa holds, in mg/L.
///
/// Benson, B. B. and Krause, D., "The concentration and isotopic fractionation of oxygen dissolved in freshwater and
/// seawater in equilibrium with the atmosphere", Limnology and Oceanography 29(3), 1984, 620-632, equations 31 and 32 in
/// mg/L as given in USGS Office of Water Quality Technical Memorandum 2011.03. Fitted for 0 to 40 °C and 0 to 40 PSU.
pub fn oxygen_saturation_mgl(temperature_c: f64, salinity_psu: f64) -> f64 {
    let kelvin = temperature_c + 273.15;
    let fresh = -139.344_11 + 1.575_701e5 / kelvin - 6.642_308e7 / kelvin.powi(2) + 1.243_8e10 / kelvin.powi(3)
        - 8.621_949e11 / kelvin.powi(4);
    let salt = 0.017_674 - 10.754 / kelvin + 2_140.7 / kelvin.powi(2);
    (fresh - salinity_psu * salt).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_published_table() {
        // The published table at 760 mm of mercury; sea water to one decimal.
        for (temperature_c, salinity_psu, expected, tolerance) in [
            (0.0, 0.0, 14.62, 0.006),
            (10.0, 0.0, 11.29, 0.006),
            (20.0, 0.0, 9.09, 0.006),
            (30.0, 0.0, 7.56, 0.006),
            (20.0, 35.0, 7.4, 0.05),
        ] {
            let value = oxygen_saturation_mgl(temperature_c, salinity_psu);
            assert!((value - expected).abs() < tolerance, "{temperature_c} °C, {salinity_psu} PSU: {value}");
        }
    }
}
