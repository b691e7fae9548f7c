//! Bad input from every side: cameras that cannot stream, hostile requests, a bucket that refuses, a wrong
//! configuration. Each gets an error that names cause and way out, nothing else suffers from it, and a camera's
//! password shows nowhere.

mod bucket;
mod cameras;
mod canary;
mod catalog;
mod command_line;
mod pages;
mod requests;
mod responder;
mod tokens;
mod vocabulary;
