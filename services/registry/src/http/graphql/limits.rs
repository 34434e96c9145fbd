//! How much one query may ask: counted in the text, before anything is looked up. The bounds are MLflow's.

use std::collections::HashMap;

use apollo_compiler::ast::{Definition, Document, Selection};

const MAX_DEPTH: usize = 10;
const MAX_SELECTIONS: usize = 1_000;
const MAX_ROOT_FIELDS: usize = 10;
const MAX_ALIASES: usize = 10;

/// Why a query asks too much, if it does. Fragments count as often as they are spread, so that neither their nesting
/// nor a circle of them gets around a bound.
pub(super) fn check(document: &Document) -> Result<(), String> {
    let fragments: HashMap<&str, &[Selection]> = document
        .definitions
        .iter()
        .filter_map(|definition| match definition {
            Definition::FragmentDefinition(fragment) => Some((fragment.name.as_str(), &fragment.selection_set[..])),
            _ => None,
        })
        .collect();
    let mut seen = 0;
    for definition in &document.definitions {
        let Definition::OperationDefinition(operation) = definition else { continue };
        let mut levels: Vec<(Vec<&[Selection]>, usize)> = vec![(vec![&operation.selection_set], 1)];
        while let Some((mut sets, depth)) = levels.pop() {
            if depth > MAX_DEPTH {
                return Err(format!("Query exceeds maximum depth of {MAX_DEPTH}"));
            }
            let (mut fields, mut aliases) = (0, 0);
            while let Some(set) = sets.pop() {
                for selection in set {
                    seen += 1;
                    if seen > MAX_SELECTIONS {
                        return Err(format!("Query exceeds maximum total selections of {MAX_SELECTIONS}"));
                    }
                    match selection {
                        Selection::Field(field) => {
                            fields += 1;
                            aliases += usize::from(field.alias.is_some());
                            if !field.selection_set.is_empty() {
                                levels.push((vec![&field.selection_set], depth + 1));
                            }
                        }
                        Selection::InlineFragment(fragment) => sets.push(&fragment.selection_set),
                        Selection::FragmentSpread(spread) => {
                            sets.extend(fragments.get(spread.fragment_name.as_str()).copied());
                        }
                    }
                }
            }
            let counts = [
                ("root fields", if depth == 1 { fields } else { 0 }, MAX_ROOT_FIELDS),
                ("aliases", aliases, MAX_ALIASES),
            ];
            if let Some((what, count, most)) = counts.into_iter().find(|(_, count, most)| count > most) {
                return Err(format!("GraphQL queries should have at most {most} {what}, got {count} {what}."));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use apollo_compiler::parser::Parser;

    fn refusal(query: &str) -> String {
        let document = Parser::new().parse_ast(query, "q").map_err(|wrong| wrong.errors.to_string()).unwrap();
        check(&document).err().unwrap_or_default()
    }

    #[test]
    fn each_bound_holds_also_through_fragments() {
        assert_eq!(refusal("{ a { b { c } } d: a { b } }"), "");
        assert!(refusal(&format!("{{ {} x {} }}", "a { ".repeat(10), "} ".repeat(10))).contains("depth"));
        let aliased = (0..11).map(|n| format!("a{n}: b ")).collect::<Vec<_>>().concat();
        assert!(refusal(&format!("{{ x {{ {aliased} }} }}")).contains("aliases"));
        assert!(
            refusal(&format!(
                "{{ x {{ ...F ... {{ {} }} }} }} fragment F on X {{ {} }}",
                &aliased[..30],
                &aliased[30..]
            ))
            .contains("aliases")
        );
        assert!(refusal(&format!("{{ {} }}", "f ".repeat(11))).contains("root fields"));
        assert!(refusal("{ ...F } fragment F on Query { ...F }").contains("selections"), "a circle");
        assert!(refusal("{ ...F } fragment F on Query { a { ...F } }").contains("depth"), "a circle of levels");
        let bomb = (0..9)
            .map(|n| format!("fragment F{n} on X {{ ...F{m} ...F{m} }} ", m = n + 1))
            .collect::<Vec<_>>()
            .concat();
        assert!(
            refusal(&format!("{{ x {{ ...F0 }} }} {bomb} fragment F9 on X {{ {} }}", "a ".repeat(9)))
                .contains("selections")
        );
    }
}
