//! The tables of TPC-H: how each is defined, and its rows as CSV.
//!
//! What it guarantees: the types are those of the TPC-H specification (decimals are exact, keys
//! are whole numbers); the rows are dbgen's, made by the `tpchgen` crate.
//! What it does not: no keys and no indexes; no query of TPC-H needs them for its answer.

use std::fmt::Arguments;

use tpchgen::csv::{
    CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv,
};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};

use crate::Result;

/// Takes one row, formatted, at a time.
type Each<'a> = &'a mut dyn FnMut(Arguments<'_>) -> Result<()>;

/// One table.
pub struct Table {
    pub name: &'static str,
    pub definition: &'static str,
    /// Gives every row at a scale factor.
    pub rows: fn(f64, Each<'_>) -> Result<()>,
}

macro_rules! rows {
    ($generator:ident, $csv:ident) => {
        |scale, each| {
            for row in $generator::new(scale, 1, 1).iter() {
                each(format_args!("{}", $csv::new(row)))?;
            }
            Ok(())
        }
    };
}

/// The tables, small ones first.
pub const TABLES: &[Table] = &[
    Table {
        name: "region",
        definition: "CREATE TABLE tpch.region (r_regionkey integer NOT NULL, r_name text NOT NULL, \
                     r_comment text)",
        rows: rows!(RegionGenerator, RegionCsv),
    },
    Table {
        name: "nation",
        definition: "CREATE TABLE tpch.nation (n_nationkey integer NOT NULL, n_name text NOT NULL, \
                     n_regionkey integer NOT NULL, n_comment text)",
        rows: rows!(NationGenerator, NationCsv),
    },
    Table {
        name: "supplier",
        definition: "CREATE TABLE tpch.supplier (s_suppkey bigint NOT NULL, s_name text NOT NULL, \
                     s_address text NOT NULL, s_nationkey integer NOT NULL, s_phone text NOT NULL, \
                     s_acctbal numeric(15, 2) NOT NULL, s_comment text NOT NULL)",
        rows: rows!(SupplierGenerator, SupplierCsv),
    },
    Table {
        name: "customer",
        definition: "CREATE TABLE tpch.customer (c_custkey bigint NOT NULL, c_name text NOT NULL, \
                     c_address text NOT NULL, c_nationkey integer NOT NULL, c_phone text NOT NULL, \
                     c_acctbal numeric(15, 2) NOT NULL, c_mktsegment text NOT NULL, \
                     c_comment text NOT NULL)",
        rows: rows!(CustomerGenerator, CustomerCsv),
    },
    Table {
        name: "part",
        definition: "CREATE TABLE tpch.part (p_partkey bigint NOT NULL, p_name text NOT NULL, \
                     p_mfgr text NOT NULL, p_brand text NOT NULL, p_type text NOT NULL, \
                     p_size integer NOT NULL, p_container text NOT NULL, \
                     p_retailprice numeric(15, 2) NOT NULL, p_comment text NOT NULL)",
        rows: rows!(PartGenerator, PartCsv),
    },
    Table {
        name: "partsupp",
        definition: "CREATE TABLE tpch.partsupp (ps_partkey bigint NOT NULL, \
                     ps_suppkey bigint NOT NULL, ps_availqty integer NOT NULL, \
                     ps_supplycost numeric(15, 2) NOT NULL, ps_comment text NOT NULL)",
        rows: rows!(PartSuppGenerator, PartSuppCsv),
    },
    Table {
        name: "orders",
        definition: "CREATE TABLE tpch.orders (o_orderkey bigint NOT NULL, \
                     o_custkey bigint NOT NULL, o_orderstatus text NOT NULL, \
                     o_totalprice numeric(15, 2) NOT NULL, o_orderdate date NOT NULL, \
                     o_orderpriority text NOT NULL, o_clerk text NOT NULL, \
                     o_shippriority integer NOT NULL, o_comment text NOT NULL)",
        rows: rows!(OrderGenerator, OrderCsv),
    },
    Table {
        name: "lineitem",
        definition: "CREATE TABLE tpch.lineitem (l_orderkey bigint NOT NULL, \
                     l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, \
                     l_linenumber integer NOT NULL, l_quantity numeric(15, 2) NOT NULL, \
                     l_extendedprice numeric(15, 2) NOT NULL, l_discount numeric(15, 2) NOT NULL, \
                     l_tax numeric(15, 2) NOT NULL, l_returnflag text NOT NULL, \
                     l_linestatus text NOT NULL, l_shipdate date NOT NULL, \
                     l_commitdate date NOT NULL, l_receiptdate date NOT NULL, \
                     l_shipinstruct text NOT NULL, l_shipmode text NOT NULL, \
                     l_comment text NOT NULL)",
        rows: rows!(LineItemGenerator, LineItemCsv),
    },
];
