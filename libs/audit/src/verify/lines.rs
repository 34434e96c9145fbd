use std::io::{BufRead, ErrorKind, Result};

/// Far above any entry; what is longer is not kept in memory.
pub(super) const MAX_LINE_BYTES: usize = 16 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The buffer holds a line, without its newline.
    Read,
    /// There was a line, and it was skipped.
    TooLong,
    /// There is no more.
    End,
}

/// Reads the next line that is not empty.
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<Line> {
    read_line_up_to(reader, line, MAX_LINE_BYTES)
}

fn read_line_up_to(reader: &mut impl BufRead, line: &mut Vec<u8>, max_bytes: usize) -> Result<Line> {
    line.clear();
    let mut is_too_long = false;
    loop {
        let chunk = match reader.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            chunk => chunk?,
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        if is_too_long || line.len() + part.len() > max_bytes {
            is_too_long = true;
            line.clear();
        } else {
            line.extend_from_slice(part);
        }
        let (used, is_end_of_input) = (end.map_or(chunk.len(), |end| end + 1), chunk.is_empty());
        reader.consume(used);
        if end.is_some() || is_end_of_input {
            match (is_too_long, line.is_empty(), is_end_of_input) {
                (true, _, _) => return Ok(Line::TooLong),
                (false, false, _) => return Ok(Line::Read),
                (false, true, true) => return Ok(Line::End),
                (false, true, false) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_read_whole_whatever_the_buffer_and_never_beyond_the_bound() {
        let text = b"one\n\ntwo22\n1234567890\n12345678\nlast";
        for capacity in 1..20 {
            let mut reader = BufReader::with_capacity(capacity, text.as_slice());
            let mut line = Vec::new();
            let mut found = Vec::new();
            loop {
                match read_line_up_to(&mut reader, &mut line, 8).unwrap() {
                    Line::End => break,
                    Line::TooLong => found.push("(too long)".to_owned()),
                    Line::Read => found.push(String::from_utf8(line.clone()).unwrap()),
                }
            }
            assert_eq!(found, ["one", "two22", "(too long)", "12345678", "last"], "capacity {capacity}");
        }
    }
}
