use std::collections::BTreeMap;

/// What a step gets of this process's own environment: what programs need to run, and nothing that may be secret.
///
/// A token that a step shall have is added on purpose by the one who starts it.
pub fn kept_environment(own: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    own.into_iter().filter(|(name, _)| is_kept(name)).collect()
}

fn is_kept(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "PATH",
        "HOME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "USER",
        "LOGNAME",
        "LD_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ];
    const PREFIXES: [&str; 5] = ["LC_", "SSL_CERT", "PYTHON", "CUDA_", "OMP_"];
    const SECRET: [&str; 5] = ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL"];
    let is_named = NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    is_named && !SECRET.iter().any(|word| name.to_ascii_uppercase().contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_here() {
        let own = ["PATH", "PYTHONPATH", "SSL_CERT_FILE", "AWS_SECRET_ACCESS_KEY", "FISHY__BUS__URL", "PYTHON_TOKEN"];
        let kept = kept_environment(own.map(|name| (name.to_owned(), "x".to_owned())));
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["PATH", "PYTHONPATH", "SSL_CERT_FILE"]);
    }
}
