//! MLflow's filter language: `clause (AND clause)*`, where a clause compares one key with one value.
//!
//! This module knows the grammar alone; which keys and operators an endpoint takes is said in [`super::search`].

use fishy_core::{Error, Result};

/// One comparison as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What stands before the first dot, where there is one: `metrics`, `params` …
    pub entity: Option<String>,
    /// The rest of the identifier.
    pub key: String,
    /// How they are compared.
    pub operator: Operator,
    /// With what.
    pub value: Literal,
}

/// How a key is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `LIKE`: `%` and `_` are wildcards, case matters.
    Like,
    /// `ILIKE`: the same, case does not matter.
    ILike,
    /// `IN (…)`
    In,
    /// `NOT IN (…)`
    NotIn,
    /// `IS NULL`
    IsNull,
    /// `IS NOT NULL`
    IsNotNull,
}

impl Operator {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Like => "LIKE",
            Self::ILike => "ILIKE",
            Self::In => "IN",
            Self::NotIn => "NOT IN",
            Self::IsNull => "IS NULL",
            Self::IsNotNull => "IS NOT NULL",
        }
    }
}

/// What a key is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// A number.
    Number(f64),
    /// A quoted text.
    Text(String),
    /// A list of quoted texts.
    List(Vec<String>),
    /// Nothing: `IS NULL` and `IS NOT NULL`.
    Nothing,
}

/// The longest filter that is read.
const MAX_FILTER_BYTES: usize = 65_536;
/// The most comparisons in one filter: each becomes a condition of the SQL.
const MAX_COMPARISONS: usize = 64;
/// The most texts in one list.
const MAX_LIST: usize = 1_000;

/// Reads a filter. An empty one has no comparisons.
pub fn parse(filter: &str) -> Result<Vec<Comparison>> {
    if filter.len() > MAX_FILTER_BYTES {
        return Err(Error::invalid(format!("the filter has {} bytes: at most {MAX_FILTER_BYTES}", filter.len())));
    }
    let mut reader = Reader { filter, rest: filter };
    let mut comparisons = Vec::new();
    reader.skip_space();
    while !reader.rest.is_empty() {
        if !comparisons.is_empty() && !reader.keyword("AND") {
            return Err(reader.wrong("AND (OR and parentheses are not supported)"));
        }
        comparisons.push(reader.comparison()?);
        if comparisons.len() > MAX_COMPARISONS {
            return Err(Error::invalid(format!("the filter has more than {MAX_COMPARISONS} comparisons")));
        }
        reader.skip_space();
    }
    Ok(comparisons)
}

/// Splits an identifier at its first dot and takes the quotes off: for `ORDER BY` keys, which use the same identifiers.
/// Answers entity, key, and what follows.
pub fn identifier(text: &str) -> Result<(Option<String>, String, &str)> {
    let mut reader = Reader { filter: text, rest: text };
    reader.skip_space();
    let (entity, key) = reader.identifier()?;
    Ok((entity, key, reader.rest))
}

struct Reader<'a> {
    filter: &'a str,
    rest: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, wanted: &str) -> Error {
        let found: String = self.rest.chars().take(20).collect();
        let found = if found.is_empty() { "the end".to_owned() } else { format!("{found:?}") };
        Error::invalid(format!("Invalid filter string {:?}: expected {wanted}, found {found}", self.filter))
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes a keyword in any case, when it stands here as a whole word.
    fn keyword(&mut self, word: &str) -> bool {
        self.skip_space();
        let Some(head) = self.rest.get(..word.len()) else { return false };
        let after = self.rest[word.len()..].chars().next();
        let ends = after.is_none_or(|next| !(next.is_alphanumeric() || matches!(next, '_' | '.' | '/' | '-')));
        if head.eq_ignore_ascii_case(word) && ends {
            self.rest = &self.rest[word.len()..];
            return true;
        }
        false
    }

    fn comparison(&mut self) -> Result<Comparison> {
        self.skip_space();
        let (entity, key) = self.identifier()?;
        let operator = self.operator()?;
        let value = match operator {
            Operator::In | Operator::NotIn => Literal::List(self.list()?),
            Operator::IsNull | Operator::IsNotNull => Literal::Nothing,
            _ => self.literal()?,
        };
        Ok(Comparison { entity, key, operator, value })
    }

    fn identifier(&mut self) -> Result<(Option<String>, String)> {
        let mut whole = String::new();
        let mut dot = None;
        let mut is_quoted_whole = false;
        while let Some(next) = self.rest.chars().next() {
            match next {
                '`' | '"' => {
                    is_quoted_whole = whole.is_empty();
                    let inner = self.quoted(next)?;
                    whole.push_str(&inner);
                }
                c if c.is_whitespace() || matches!(c, '=' | '!' | '<' | '>' | '(' | ')' | ',' | '\'' | ';') => break,
                c => {
                    if c == '.' && dot.is_none() && !is_quoted_whole {
                        dot = Some(whole.len());
                    }
                    whole.push(c);
                    self.rest = &self.rest[c.len_utf8()..];
                }
            }
        }
        let (entity, key) = match dot {
            Some(at) => (Some(whole[..at].to_owned()), whole[at + 1..].to_owned()),
            None => (None, whole),
        };
        if key.is_empty() || entity.as_ref().is_some_and(String::is_empty) {
            return Err(self.wrong("a key such as metrics.rmse or attributes.status"));
        }
        Ok((entity, key))
    }

    /// A quoted text; the quote itself is written twice inside.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut inner = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c != quote {
                inner.push(c);
            } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
                inner.push(quote);
                chars.next();
            } else {
                self.rest = &self.rest[at + c.len_utf8()..];
                return Ok(inner);
            }
        }
        Err(self.wrong(&format!("a closing {quote}")))
    }

    fn operator(&mut self) -> Result<Operator> {
        const SYMBOLS: [(&str, Operator); 8] = [
            ("!=", Operator::NotEqual),
            ("<>", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("==", Operator::Equal),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        self.skip_space();
        for (symbol, operator) in SYMBOLS {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                self.rest = rest;
                return Ok(operator);
            }
        }
        if self.keyword("LIKE") {
            return Ok(Operator::Like);
        }
        if self.keyword("ILIKE") {
            return Ok(Operator::ILike);
        }
        if self.keyword("IN") {
            return Ok(Operator::In);
        }
        if self.keyword("NOT") {
            return if self.keyword("IN") { Ok(Operator::NotIn) } else { Err(self.wrong("IN after NOT")) };
        }
        if self.keyword("IS") {
            let is_not = self.keyword("NOT");
            if !self.keyword("NULL") {
                return Err(self.wrong("NULL or NOT NULL after IS"));
            }
            return Ok(if is_not { Operator::IsNotNull } else { Operator::IsNull });
        }
        Err(self.wrong("an operator (=, !=, <, <=, >, >=, LIKE, ILIKE, IN, NOT IN, IS NULL, IS NOT NULL)"))
    }

    fn literal(&mut self) -> Result<Literal> {
        self.skip_space();
        match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote).map(Literal::Text),
            _ => self.number().map(Literal::Number),
        }
    }

    fn number(&mut self) -> Result<f64> {
        let ends = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let text = &self.rest[..end];
        let starts = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
        match text.parse::<f64>() {
            Ok(number) if starts && number.is_finite() => {
                self.rest = &self.rest[end..];
                Ok(number)
            }
            _ => Err(self.wrong("a number or a quoted text")),
        }
    }

    fn list(&mut self) -> Result<Vec<String>> {
        self.skip_space();
        let Some(rest) = self.rest.strip_prefix('(') else { return Err(self.wrong("a list such as ('a', 'b')")) };
        self.rest = rest;
        let mut items = Vec::new();
        loop {
            self.skip_space();
            match self.rest.chars().next() {
                Some(')') if !items.is_empty() => {
                    self.rest = &self.rest[1..];
                    return Ok(items);
                }
                Some(quote @ ('\'' | '"')) => items.push(self.quoted(quote)?),
                _ => return Err(self.wrong("a quoted text in the list")),
            }
            if items.len() > MAX_LIST {
                return Err(Error::invalid(format!("a list of more than {MAX_LIST} texts in the filter")));
            }
            self.skip_space();
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None if self.rest.starts_with(')') => {}
                None => return Err(self.wrong("',' or ')'")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(filter: &str) -> Comparison {
        let mut all = parse(filter).unwrap();
        assert_eq!(all.len(), 1, "{filter}");
        all.remove(0)
    }

    fn comparison(entity: &str, key: &str, operator: Operator, value: Literal) -> Comparison {
        let entity = (!entity.is_empty()).then(|| entity.to_owned());
        Comparison { entity, key: key.to_owned(), operator, value }
    }

    #[test]
    fn every_operator_and_way_of_quoting_is_read() {
        let text = |t: &str| Literal::Text(t.to_owned());
        let list = |items: &[&str]| Literal::List(items.iter().map(|&i| i.to_owned()).collect());
        for (filter, expected) in [
            ("metrics.rmse < 0.5", comparison("metrics", "rmse", Operator::Less, Literal::Number(0.5))),
            ("metrics.`a b`>=-1e-3", comparison("metrics", "a b", Operator::GreaterOrEqual, Literal::Number(-0.001))),
            (
                "metrics.\"val/loss\" <= 1",
                comparison("metrics", "val/loss", Operator::LessOrEqual, Literal::Number(1.0)),
            ),
            ("params.lr='0.1'", comparison("params", "lr", Operator::Equal, text("0.1"))),
            ("tags.mlflow.user != \"ada\"", comparison("tags", "mlflow.user", Operator::NotEqual, text("ada"))),
            ("tags.`mlflow.user` like '%a'", comparison("tags", "mlflow.user", Operator::Like, text("%a"))),
            ("tag.x ILike 'it''s'", comparison("tag", "x", Operator::ILike, text("it's"))),
            ("name = 'and or ( ; '", comparison("", "name", Operator::Equal, text("and or ( ; "))),
            ("run_id IN ('a','b' , \"c\")", comparison("", "run_id", Operator::In, list(&["a", "b", "c"]))),
            ("attributes.run_id not  in ('a')", comparison("attributes", "run_id", Operator::NotIn, list(&["a"]))),
            ("tags.x IS NULL", comparison("tags", "x", Operator::IsNull, Literal::Nothing)),
            ("tags.x is not null", comparison("tags", "x", Operator::IsNotNull, Literal::Nothing)),
            ("`Run Name` = 'x'", comparison("", "Run Name", Operator::Equal, text("x"))),
            ("start_time > 1700000000000", comparison("", "start_time", Operator::Greater, Literal::Number(1.7e12))),
        ] {
            assert_eq!(one(filter), expected, "{filter}");
        }
    }

    #[test]
    fn comparisons_are_joined_by_and() {
        let all = parse(" metrics.a > 1 and params.b = 'x' AND tags.c IS NULL ").unwrap();
        assert_eq!(all.iter().map(|c| c.key.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(parse("  ").unwrap(), []);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for bad in [
            "metrics.a > 1 OR metrics.b > 2",
            "(metrics.a > 1)",
            "metrics.a >",
            "metrics.a",
            "metrics. > 1",
            ".a > 1",
            "params.a = x",
            "params.a = 'x",
            "params.`a = 'x'",
            "run_id IN ()",
            "run_id IN ('a'",
            "run_id IN ('a' 'b')",
            "run_id IN (1)",
            "tags.x IS",
            "tags.x IS 'a'",
            "tags.x NOT LIKE 'a'",
            "metrics.a > 1; DROP TABLE runs",
            "metrics.a > 1 metrics.b > 1",
            "metrics.a > nan",
            "metrics.a > 1e999",
            "= 1",
            "AND metrics.a > 1",
            "metrics.a > 1 AND",
        ] {
            // `AND` at the end and at the start are read as keys without an operator.
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_text_survives_quoting(key in "[a-z/ .]{1,20}", value in ".{0,30}", number in -1e9..1e9f64) {
            let quoted = value.replace('\'', "''");
            let filter = format!("params.`{key}` = '{quoted}' AND metrics.`{key}` >= {number}");
            let all = parse(&filter).unwrap();
            prop_assert_eq!(&all[0].key, &key);
            prop_assert_eq!(&all[0].value, &Literal::Text(value));
            prop_assert_eq!(&all[1].value, &Literal::Number(number));
        }

        #[test]
        fn keywords_inside_values_do_not_split(words in prop::collection::vec("(AND|OR|LIKE|IN|NOT|=|<|x)", 1..6)) {
            let value = words.join(" ");
            let filter = format!("tags.t = '{value}' AND tags.u = \"{value}\"");
            prop_assert_eq!(parse(&filter).unwrap().len(), 2);
        }
    }
}
