use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, RecordBatch, RecordBatchReader};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Format;
use super::ask::Asker;

/// What a run does: parts of another one do not belong to it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    input: PathBuf,
    input_bytes: u64,
    input_modified_ns: u128,
    deployment: String,
    version: String,
    format: Format,
    batch_rows: u32,
    keep: Vec<String>,
    record: bool,
}

impl Job {
    pub fn of(input: &Path, asker: &Asker, format: Format, batch_rows: u32, keep: &[String]) -> Result<Self> {
        let about = std::fs::metadata(input)?;
        Ok(Self {
            input: input.canonicalize()?,
            input_bytes: about.len(),
            input_modified_ns: about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos(),
            deployment: asker.deployment().to_owned(),
            version: asker.version().to_owned(),
            format,
            batch_rows,
            keep: keep.to_vec(),
            record: asker.is_recorded(),
        })
    }
}

/// The parts of an output file, in a folder beside it until the file is whole.
pub struct Parts {
    file: PathBuf,
    folder: PathBuf,
    format: Format,
    id: String,
}

impl Parts {
    /// The folder of a job: as an earlier run of the same job left it, else new.
    pub fn open(file: &Path, job: &Job, restart: bool) -> Result<Self> {
        let mut folder = file.as_os_str().to_owned();
        folder.push(".parts");
        let folder = PathBuf::from(folder);
        let text = serde_json::to_string_pretty(job)?;
        let about = folder.join("job.json");
        if restart && folder.is_dir() {
            std::fs::remove_dir_all(&folder)?;
        }
        match std::fs::read_to_string(&about) {
            Ok(present) if present == text => {}
            Ok(present) => bail!(
                "{} has parts of another run ({}): finish that one with its own settings, or begin anew with --restart",
                folder.display(),
                difference(&present, &text)
            ),
            Err(_) => {
                std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
                write_whole(&about, |out| Ok(out.write_all(text.as_bytes())?))?;
            }
        }
        let id = hex::encode(&Sha256::digest(text.as_bytes())[..8]);
        Ok(Self { file: file.to_owned(), folder, format: job.format, id })
    }

    /// Names the job; the same for the same job.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{number:08}"))
    }

    /// Whether a part is done: a part has its name only once it is whole.
    pub fn has(&self, number: usize) -> bool {
        self.path(number).is_file()
    }

    /// How many parts are done.
    pub fn done(&self) -> Result<usize> {
        let entries = std::fs::read_dir(&self.folder)?.collect::<Result<Vec<_>, _>>()?;
        let is_part = |entry: &std::fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| name.len() == 8 && name.bytes().all(|b| b.is_ascii_digit()))
        };
        Ok(entries.iter().filter(|entry| is_part(entry)).count())
    }

    /// Writes a part, so that it is there whole or not at all.
    pub fn write(&self, number: usize, rows: &RecordBatch) -> Result<()> {
        write_whole(&self.path(number), |out| match self.format {
            Format::Parquet => {
                let mut writer = ArrowWriter::try_new(out, rows.schema(), None)?;
                writer.write(rows)?;
                writer.close()?;
                Ok(())
            }
            Format::Csv => Ok(arrow::csv::WriterBuilder::new().with_header(number == 0).build(out).write(rows)?),
            Format::Jsonl => write_lines(out, rows),
        })
    }

    /// Puts `count` parts together into the output file, and removes them.
    pub fn finish(&self, count: usize) -> Result<()> {
        if let Some(missing) = (0..count).find(|number| !self.has(*number)) {
            bail!("part {missing} of {count} has gone: run the same command again");
        }
        write_whole(&self.file, |out| {
            if self.format == Format::Parquet {
                return self.join_parquet(out, count);
            }
            for number in 0..count {
                std::io::copy(&mut BufReader::new(File::open(self.path(number))?), out)?;
            }
            Ok(())
        })?;
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }

    fn join_parquet(&self, out: &mut BufWriter<File>, count: usize) -> Result<()> {
        let mut writer: Option<ArrowWriter<&mut BufWriter<File>>> = None;
        let mut out = Some(out);
        for number in 0..count {
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(self.path(number))?)?.build()?;
            if let Some(out) = out.take() {
                writer = Some(ArrowWriter::try_new(out, reader.schema(), None)?);
            }
            for rows in reader {
                if let Some(writer) = writer.as_mut() {
                    writer.write(&rows?)?;
                }
            }
        }
        if let Some(writer) = writer {
            writer.close()?;
        }
        Ok(())
    }
}

fn write_lines(out: &mut impl Write, rows: &RecordBatch) -> Result<()> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::default().with_null("null");
    let schema = rows.schema();
    for row in 0..rows.num_rows() {
        let mut line = serde_json::Map::new();
        for (field, column) in schema.fields().iter().zip(rows.columns()) {
            let text = ArrayFormatter::try_new(column, &options)?.value(row).to_string();
            let is_word = field.data_type().is_numeric() || *field.data_type() == arrow::datatypes::DataType::Boolean;
            let value = match serde_json::from_str(&text) {
                Ok(value) if is_word => value,
                // NaN and infinities, which JSON has no words for.
                Err(_) if is_word => serde_json::Value::Null,
                _ if column.is_null(row) => serde_json::Value::Null,
                _ => text.into(),
            };
            line.insert(field.name().clone(), value);
        }
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The first setting in which two jobs differ.
fn difference(present: &str, wanted: &str) -> String {
    let other = present.lines().zip(wanted.lines()).find(|(present, wanted)| present != wanted);
    other.map_or_else(
        || "unreadable".to_owned(),
        |(present, wanted)| {
            format!("{} and not {}", present.trim().trim_end_matches(','), wanted.trim().trim_end_matches(','))
        },
    )
}

/// Writes a file under another name, brings it to the disk, and gives it its own.
fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let writing = || format!("writing {}", path.display());
    let mut out = BufWriter::new(File::create(&partial).with_context(writing)?);
    write(&mut out).with_context(writing)?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all().with_context(writing)?;
    std::fs::rename(&partial, path).with_context(writing)
}
