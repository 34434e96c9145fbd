//! Pure rules: what a model takes, what a request says, what is recorded. No SQL, no HTTP, no clock.

mod columnar;
pub(crate) mod compare;
mod elements;
mod example;
mod frame;
pub(crate) mod graph;
mod layout;
mod memory;
mod mix;
mod mlmodel;
mod model_uri;
mod nested;
mod record;
pub(crate) mod replay;
mod request;
mod signature;

pub(crate) use elements::Elements;
pub(crate) use example::{Golden, parse_example, prepare_value};
pub(crate) use frame::{Frame, Records, Split};
pub(crate) use layout::{Layout, NamedInput, Prepared};
pub(crate) use memory::{InMemory, choose_unloaded, loaded_bytes};
pub(crate) use mix::{Mixer, Scalars};
pub(crate) use mlmodel::MlModel;
pub(crate) use model_uri::{ModelUri, Reference};
pub(crate) use nested::Nested;
pub(crate) use record::{Element, OutputsOfRow, Recorded, RowOf};
pub(crate) use request::{RequestMeta, check_prediction_id, parse_time};
pub(crate) use signature::{Column, Param, Signature, check_params};
