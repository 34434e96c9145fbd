use fishy_core::{Error, Result};

/// A row that the model is asked for: the features that are present have the values of the row that is explained, the
/// others those of a row of the background.
#[derive(Debug, Clone, Copy)]
pub struct Coalition<'a> {
    /// For each feature, whether it has the value of the row that is explained.
    pub present: &'a [bool],
    /// The place of the background row.
    pub background: usize,
}

/// Answers rows: all outputs of the first, then all of the second, and so on.
pub type Model<'a> = dyn FnMut(&[Coalition<'_>]) -> Result<Vec<f64>> + 'a;

/// The worth of sets of features: the model's mean answer over the background.
pub(crate) struct Worth<'m, 'f> {
    model: &'m mut Model<'f>,
    background: usize,
    batch_rows: usize,
    /// Rows that were asked for.
    pub(crate) evaluations: usize,
    outputs: Option<usize>,
}

impl<'m, 'f> Worth<'m, 'f> {
    pub(crate) fn new(model: &'m mut Model<'f>, background: usize, batch_rows: usize) -> Self {
        Self { model, background, batch_rows: batch_rows.max(1), evaluations: 0, outputs: None }
    }

    /// The worth of each set, by output. The set of all features needs no background, and is asked for once.
    pub(crate) fn of(&mut self, sets: &[Vec<bool>]) -> Result<Vec<Vec<f64>>> {
        let background = self.background;
        let asked: Vec<(usize, usize)> = sets
            .iter()
            .enumerate()
            .flat_map(|(index, set)| (0..rows_of(set, background)).map(move |row| (index, row)))
            .collect();
        let mut worths: Vec<Vec<f64>> = vec![Vec::new(); sets.len()];
        for chunk in asked.chunks(self.batch_rows) {
            let coalitions: Vec<Coalition<'_>> = chunk
                .iter()
                .map(|(set, background)| Coalition { present: &sets[*set], background: *background })
                .collect();
            let answers = (self.model)(&coalitions)?;
            self.evaluations += chunk.len();
            let outputs = self.check(&answers, chunk.len())?;
            for ((set, _), answer) in chunk.iter().zip(answers.chunks(outputs)) {
                let count = rows_of(&sets[*set], background) as f64;
                let worth = &mut worths[*set];
                worth.resize(outputs, 0.0);
                for (sum, value) in worth.iter_mut().zip(answer) {
                    *sum += value / count;
                }
            }
        }
        Ok(worths)
    }

    fn check(&mut self, answers: &[f64], rows: usize) -> Result<usize> {
        let outputs = answers.len() / rows;
        if outputs == 0 || outputs * rows != answers.len() || self.outputs.is_some_and(|before| before != outputs) {
            return Err(Error::precondition(format!(
                "the model answered {rows} rows with {} values, and every row must have as many",
                answers.len()
            )));
        }
        if let Some(value) = answers.iter().find(|value| !value.is_finite()) {
            return Err(Error::precondition(format!(
                "the model answers {value} where features of the row and of the background are mixed, which has no \
                 explanation"
            )));
        }
        self.outputs = Some(outputs);
        Ok(outputs)
    }
}

fn rows_of(set: &[bool], background: usize) -> usize {
    if set.iter().all(|present| *present) { 1 } else { background }
}
