use std::path::PathBuf;

/// Text of a file that is shared beside the repository; `None`, loudly, where it is not there. CI insists on it.
pub fn read(path: &str) -> Option<String> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(path);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        #[expect(clippy::disallowed_methods, reason = "CI says so by environment")]
        let is_ci = std::env::var_os("CI").is_some();
        assert!(!is_ci, "{} is not there", path.display());
        eprintln!("SKIPPED: {} is not there", path.display());
    }
    text
}

/// A column of a CSV file; what is no number is NaN.
pub fn column(text: &str, name: &str) -> Vec<f64> {
    cells(text, name).iter().map(|cell| cell.parse().unwrap_or(f64::NAN)).collect()
}

/// The cells of a column of a CSV file without quotes.
pub fn cells<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = text.lines();
    let place = lines.next().unwrap().split(',').position(|header| header == name).unwrap();
    lines.map(|line| line.split(',').nth(place).unwrap()).collect()
}
