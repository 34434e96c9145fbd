//! Pure rules: what a model takes, what a request says, what is recorded. No SQL, no HTTP, no clock.

pub(crate) mod cloud_event;
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
mod program;
mod python;
mod record;
pub(crate) mod replay;
mod request;
mod signature;
mod spread;

pub(crate) use elements::Elements;
pub(crate) use example::{Golden, parse_example, prepare_value};
pub(crate) use frame::{Frame, Records, Split};
pub(crate) use layout::{Layout, NamedInput, Prepared};
pub(crate) use memory::{InMemory, choose_unloaded, loaded_bytes};
pub(crate) use mix::{Mixer, Scalars};
pub(crate) use mlmodel::{MlModel, ModelForm};
pub(crate) use model_uri::{ModelUri, Reference};
pub(crate) use nested::Nested;
pub(crate) use program::{PROGRAM_FILE, ProgramSpec, recorded_body};
pub(crate) use python::python_interface;
pub(crate) use record::{Element, OutputsOfRow, Recorded, RowOf, without_shadows};
pub(crate) use request::{RequestMeta, check_prediction_id, parse_time};
pub(crate) use signature::{Column, Param, Signature, check_params};
pub(crate) use spread::spread;
