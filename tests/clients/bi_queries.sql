-- What BI tools and their drivers ask of a PostgreSQL, by the tool: at connect, and when someone looks
-- through the catalog. Each must run; bi_queries.py checks some answers.

-- Npgsql 4 (Power BI)
SELECT ns.nspname, a.typname, a.oid, a.typrelid, a.typbasetype, CASE WHEN
    pg_proc.proname='array_recv' THEN 'a' ELSE a.typtype END AS type, CASE WHEN
    pg_proc.proname='array_recv' THEN a.typelem WHEN a.typtype='r' THEN rngsubtype ELSE 0 END AS
    elemoid, CASE WHEN pg_proc.proname IN ('array_recv','oidvectorrecv') THEN 3 WHEN a.typtype='r'
    THEN 2 WHEN a.typtype='d' THEN 1 ELSE 0 END AS ord FROM pg_type AS a JOIN pg_namespace AS ns
    ON (ns.oid = a.typnamespace) JOIN pg_proc ON pg_proc.oid = a.typreceive LEFT OUTER JOIN
    pg_class AS cls ON (cls.oid = a.typrelid) LEFT OUTER JOIN pg_type AS b ON (b.oid = a.typelem)
    LEFT OUTER JOIN pg_class AS elemcls ON (elemcls.oid = b.typrelid) LEFT OUTER JOIN pg_range ON
    (pg_range.rngtypid = a.oid) WHERE a.typtype IN ('b', 'r', 'e', 'd') OR (a.typtype = 'c' AND
    cls.relkind='c') OR (pg_proc.proname='array_recv' AND (b.typtype IN ('b', 'r', 'e', 'd') OR
    (b.typtype = 'p' AND b.typname IN ('record', 'void')) OR (b.typtype = 'c' AND
    elemcls.relkind='c'))) OR (a.typtype = 'p' AND a.typname IN ('record', 'void')) ORDER BY ord
    LIMIT 3;

-- Npgsql 5+
SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM ( SELECT typ.oid,
    typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind,
    elemtyp.oid AS elemtypoid, elemtyp.typname AS elemtypname, elemcls.relkind AS elemrelkind,
    CASE WHEN elemproc.proname='array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype,
    typ.typcategory FROM ( SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind,
    typelem AS elemoid, CASE WHEN proc.proname='array_recv' THEN 'a' ELSE typ.typtype END AS
    typtype, CASE WHEN proc.proname='array_recv' THEN typ.typelem WHEN typ.typtype='r' THEN
    rngsubtype WHEN typ.typtype='m' THEN (SELECT rngtypid FROM pg_range WHERE rngmultitypid =
    typ.oid) WHEN typ.typtype='d' THEN typ.typbasetype END AS elemtypoid, typ.typcategory FROM
    pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc
    ON proc.oid = typ.typreceive LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid) ) AS typ LEFT
    JOIN pg_type AS elemtyp ON elemtyp.oid = elemtypoid LEFT JOIN pg_class AS elemcls ON
    (elemcls.oid = elemtyp.typrelid) LEFT JOIN pg_proc AS elemproc ON elemproc.oid =
    elemtyp.typreceive ) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace) WHERE typtype IN
    ('b', 'r', 'm', 'e', 'd') OR (typtype = 'c' AND relkind='c') OR (typtype = 'p' AND typname IN
    ('record', 'void', 'unknown')) OR (typtype = 'a' AND ( elemtyptype IN ('b', 'r', 'm', 'e',
    'd') OR (elemtyptype = 'p' AND elemtypname IN ('record', 'void')) OR (elemtyptype = 'c' AND
    elemrelkind='c') )) ORDER BY CASE WHEN typtype IN ('b', 'e', 'p') THEN 0 WHEN typtype = 'c'
    THEN 1 WHEN typtype = 'r' THEN 2 WHEN typtype = 'm' THEN 3 WHEN typtype = 'd' AND elemtyptype
    <> 'a' THEN 4 WHEN typtype = 'a' THEN 5 WHEN typtype = 'd' AND elemtyptype = 'a' THEN 6 END
    LIMIT 3;
SELECT typ.oid, att.attname, att.atttypid FROM pg_type AS typ JOIN pg_namespace AS ns ON (ns.oid =
    typ.typnamespace) JOIN pg_class AS cls ON (cls.oid = typ.typrelid) JOIN pg_attribute AS att ON
    (att.attrelid = typ.typrelid) WHERE (typ.typtype = 'c' AND cls.relkind='c') AND attnum > 0 AND
    NOT attisdropped ORDER BY typ.oid, att.attnum;
SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid=enumtypid ORDER BY oid,
    enumsortorder;

-- Power BI
select character_set_name from INFORMATION_SCHEMA.character_sets;
select TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE from INFORMATION_SCHEMA.tables where TABLE_SCHEMA not
    in ('information_schema', 'pg_catalog') order by TABLE_SCHEMA, TABLE_NAME;
select COLUMN_NAME, ORDINAL_POSITION, IS_NULLABLE, case when (data_type like '%unsigned%') then
    DATA_TYPE || ' unsigned' else DATA_TYPE end as DATA_TYPE from INFORMATION_SCHEMA.columns where
    TABLE_SCHEMA = 'city' and TABLE_NAME = 't' order by TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION;
select pkcol.COLUMN_NAME as PK_COLUMN_NAME, fkcol.TABLE_SCHEMA AS FK_TABLE_SCHEMA,
    fkcol.TABLE_NAME AS FK_TABLE_NAME, fkcol.COLUMN_NAME as FK_COLUMN_NAME, fkcol.ORDINAL_POSITION
    as ORDINAL, fkcon.CONSTRAINT_SCHEMA || '_' || fkcol.TABLE_NAME || '_' || 't' || '_' ||
    fkcon.CONSTRAINT_NAME as FK_NAME from (select distinct constraint_catalog, constraint_schema,
    unique_constraint_schema, constraint_name, unique_constraint_name from
    INFORMATION_SCHEMA.referential_constraints) fkcon inner join
    INFORMATION_SCHEMA.key_column_usage fkcol on fkcon.CONSTRAINT_SCHEMA = fkcol.CONSTRAINT_SCHEMA
    and fkcon.CONSTRAINT_NAME = fkcol.CONSTRAINT_NAME inner join
    INFORMATION_SCHEMA.key_column_usage pkcol on fkcon.UNIQUE_CONSTRAINT_SCHEMA =
    pkcol.CONSTRAINT_SCHEMA and fkcon.UNIQUE_CONSTRAINT_NAME = pkcol.CONSTRAINT_NAME where
    pkcol.TABLE_SCHEMA = 'city' and pkcol.TABLE_NAME = 't' and pkcol.ORDINAL_POSITION =
    fkcol.ORDINAL_POSITION order by FK_NAME, fkcol.ORDINAL_POSITION;
select i.CONSTRAINT_SCHEMA || '_' || i.CONSTRAINT_NAME as INDEX_NAME, ii.COLUMN_NAME,
    ii.ORDINAL_POSITION, case when i.CONSTRAINT_TYPE = 'PRIMARY KEY' then 'Y' else 'N' end as
    PRIMARY_KEY from INFORMATION_SCHEMA.table_constraints i inner join
    INFORMATION_SCHEMA.key_column_usage ii on i.CONSTRAINT_SCHEMA = ii.CONSTRAINT_SCHEMA and
    i.CONSTRAINT_NAME = ii.CONSTRAINT_NAME and i.TABLE_SCHEMA = ii.TABLE_SCHEMA and i.TABLE_NAME =
    ii.TABLE_NAME where i.TABLE_SCHEMA = 'city' and i.TABLE_NAME = 't' and i.CONSTRAINT_TYPE in
    ('PRIMARY KEY', 'UNIQUE') order by i.CONSTRAINT_SCHEMA || '_' || i.CONSTRAINT_NAME,
    ii.TABLE_SCHEMA, ii.TABLE_NAME, ii.ORDINAL_POSITION;
select "$Table"."id" as "id", "$Table"."name" as "name" from "city"."t" "$Table" limit 1000;

-- DBeaver
SELECT current_schema(),session_user;
SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN
    pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 AND
    d.classoid='pg_namespace'::regclass ORDER BY nspname;
SELECT n.nspname = ANY(current_schemas(true)), n.nspname, t.typname FROM pg_catalog.pg_type t JOIN
    pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = 1034;
SELECT typinput='pg_catalog.array_in'::regproc as is_array, typtype, typname, pg_type.oid FROM
    pg_catalog.pg_type LEFT JOIN (select ns.oid as nspoid, ns.nspname, r.r from pg_namespace as ns
    join ( select s.r, (current_schemas(false))[s.r] as nspname from generate_series(1,
    array_upper(current_schemas(false), 1)) as s(r) ) as r using ( nspname ) ) as sp ON sp.nspoid
    = typnamespace WHERE pg_type.oid = 1034 ORDER BY sp.r, pg_type.oid DESC;
SHOW search_path;
SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datname='kho';
select * from pg_catalog.pg_settings where name='standard_conforming_strings';
select string_agg(word, ',') from pg_catalog.pg_get_keywords() where word <> ALL
    ('{a,abs,absolute}'::text[]);
SELECT version();
SELECT * FROM pg_catalog.pg_enum WHERE 1<>1 LIMIT 1;
SELECT reltype FROM pg_catalog.pg_class WHERE 1<>1 LIMIT 1;
SELECT t.oid,t.*,c.relkind,format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name,
    d.description FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON
    et.oid=t.typelem LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid=t.typrelid LEFT OUTER JOIN
    pg_catalog.pg_description d ON t.oid=d.objoid WHERE t.typname IS NOT NULL AND (c.relkind IS
    NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C') LIMIT 2;
SELECT c.oid,c.*,d.description,pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr,
    pg_catalog.pg_get_partkeydef(c.oid) as partition_key FROM pg_catalog.pg_class c LEFT OUTER
    JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND
    d.classoid='pg_class'::regclass WHERE c.relnamespace='city'::regnamespace AND c.relkind not in
    ('i','I','c');
select c.oid,pg_catalog.pg_total_relation_size(c.oid) as
    total_rel_size,pg_catalog.pg_relation_size(c.oid) as rel_size FROM pg_class c WHERE
    c.relnamespace='city'::regnamespace;
SELECT c.relname,a.*,pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) as
    def_value,dsc.description,dep.objid FROM pg_catalog.pg_attribute a INNER JOIN
    pg_catalog.pg_class c ON (a.attrelid=c.oid) LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON
    (a.attrelid=ad.adrelid AND a.attnum = ad.adnum) LEFT OUTER JOIN pg_catalog.pg_description dsc
    ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) LEFT OUTER JOIN pg_depend dep on
    dep.refobjid = a.attrelid AND dep.deptype = 'i' and dep.refobjsubid = a.attnum and dep.classid
    = dep.refclassid WHERE NOT a.attisdropped AND c.relkind not in ('i','I','c') AND
    c.oid='city.t'::regclass ORDER BY a.attnum;
SELECT c.oid,c.*,t.relname as tabrelname,rt.relnamespace as refnamespace,d.description, case when
    c.contype='c' then "substring"(pg_get_constraintdef(c.oid), 7) else null end consrc_copy FROM
    pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid LEFT OUTER
    JOIN pg_catalog.pg_class rt ON rt.oid=c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d
    ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_constraint'::regclass WHERE
    c.conrelid='city.t'::regclass ORDER BY c.oid;
SELECT i.*,i.indkey as keys,c.relname,c.relnamespace,c.relam,c.reltablespace,tc.relname as
    tabrelname,dsc.description, pg_catalog.pg_get_expr(i.indpred, i.indrelid) as
    pred_expr,pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) as expr,
    pg_catalog.pg_relation_size(i.indexrelid) as index_rel_size,
    pg_catalog.pg_stat_get_numscans(i.indexrelid) as index_num_scans FROM pg_catalog.pg_index i
    INNER JOIN pg_catalog.pg_class c ON c.oid=i.indexrelid INNER JOIN pg_catalog.pg_class tc ON
    tc.oid=i.indrelid LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid=dsc.objoid
    WHERE i.indrelid='city.t'::regclass ORDER BY tabrelname, c.relname;
select c.oid,pg_catalog.pg_get_viewdef(c.oid,true) from pg_catalog.pg_class c where relname='v';
SELECT x.* FROM city.t x LIMIT 5;
SELECT DISTINCT dep.deptype, dep.classid, dep.objid, cl.relkind,
    attr.attname,pg_get_expr(ad.adbin, ad.adrelid) adefval, CASE WHEN cl.relkind IS NOT NULL THEN
    CASE WHEN dep.objsubid > 0 THEN cl.relkind || dep.objsubid::text ELSE cl.relkind::text END
    WHEN rw.oid IS NOT NULL THEN 'R'::text END AS type FROM pg_depend dep LEFT JOIN pg_class cl ON
    dep.objid=cl.oid LEFT JOIN pg_attribute attr ON dep.objid=attr.attrelid AND
    dep.objsubid=attr.attnum LEFT JOIN pg_rewrite rw ON dep.objid=rw.oid LEFT JOIN pg_attrdef ad
    ON ad.adrelid=attr.attrelid AND ad.adnum=attr.attnum WHERE dep.refobjid='city.t'::regclass
    ORDER BY classid, cl.relkind;

-- Metabase
with table_privileges as (select NULL as role, t.schemaname as schema, t.objectname as table,
    pg_catalog.has_any_column_privilege(current_user, '"' || t.schemaname || '"' || '.' || '"' ||
    t.objectname || '"', 'update') as update, pg_catalog.has_any_column_privilege(current_user,
    '"' || t.schemaname || '"' || '.' || '"' || t.objectname || '"', 'select') as select,
    pg_catalog.has_any_column_privilege(current_user, '"' || t.schemaname || '"' || '.' || '"' ||
    t.objectname || '"', 'insert') as insert, pg_catalog.has_table_privilege(current_user, '"' ||
    t.schemaname || '"' || '.' || '"' || t.objectname || '"', 'delete') as delete from (select
    schemaname, tablename as objectname from pg_catalog.pg_tables union select schemaname,
    viewname as objectname from pg_catalog.pg_views union select schemaname, matviewname as
    objectname from pg_catalog.pg_matviews) t where t.schemaname !~ '^pg_' and t.schemaname <>
    'information_schema' and pg_catalog.has_schema_privilege(current_user, t.schemaname, 'usage'))
    select t.* from table_privileges t;
SELECT n.nspname AS schema, c.relname AS name, CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN
    'PARTITIONED TABLE' WHEN 'v' THEN 'VIEW' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'm' THEN
    'MATERIALIZED VIEW' ELSE NULL END AS type, d.description AS description, stat.n_live_tup AS
    estimated_row_count FROM pg_catalog.pg_class AS c INNER JOIN pg_catalog.pg_namespace AS n ON
    c.relnamespace = n.oid LEFT JOIN pg_catalog.pg_description AS d ON ((c.oid = d.objoid) AND
    (d.objsubid = 0) AND (d.classoid = 'pg_class'::regclass)) LEFT JOIN pg_stat_user_tables AS
    stat ON ((n.nspname = stat.schemaname) AND (c.relname = stat.relname)) WHERE (c.relnamespace =
    n.oid) AND (n.nspname !~ '^pg_') AND (n.nspname <> 'information_schema') AND c.relkind IN
    ('r', 'p', 'v', 'f', 'm') AND (n.nspname IN ('city')) ORDER BY type ASC, schema ASC, name ASC;
SELECT c.column_name AS name, CASE WHEN c.udt_schema IN ('public', 'pg_catalog') THEN FORMAT('%s',
    c.udt_name) ELSE FORMAT('"%s"."%s"', c.udt_schema, c.udt_name) END AS "database-type",
    c.ordinal_position - 1 AS "database-position", c.table_schema AS "table-schema", c.table_name
    AS "table-name", pk.column_name IS NOT NULL AS "pk?",
    COL_DESCRIPTION(CAST(CAST(FORMAT('%I.%I', CAST(c.table_schema AS TEXT), CAST(c.table_name AS
    TEXT)) AS REGCLASS) AS OID), c.ordinal_position) AS "field-comment", ((column_default IS NULL)
    OR (LOWER(column_default) = 'null')) AND (is_nullable = 'NO') AND NOT (((column_default IS NOT
    NULL) AND (column_default LIKE '%nextval(%')) OR (is_identity <> 'NO')) AS
    "database-required", ((column_default IS NOT NULL) AND (column_default LIKE '%nextval(%')) OR
    (is_identity <> 'NO') AS "database-is-auto-increment" FROM information_schema.columns AS c
    LEFT JOIN (SELECT tc.table_schema, tc.table_name, kc.column_name FROM
    information_schema.table_constraints AS tc INNER JOIN information_schema.key_column_usage AS
    kc ON (tc.constraint_name = kc.constraint_name) AND (tc.table_schema = kc.table_schema) AND
    (tc.table_name = kc.table_name) WHERE tc.constraint_type = 'PRIMARY KEY') AS pk ON
    (c.table_schema = pk.table_schema) AND (c.table_name = pk.table_name) AND (c.column_name =
    pk.column_name) WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' AND
    (c.table_schema IN ('city')) ORDER BY "table-schema" ASC, "table-name" ASC,
    "database-position" ASC;
SELECT nspname, typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid
    IN (SELECT DISTINCT e.enumtypid FROM pg_enum e);
SELECT TRUE AS "_" FROM "city"."t" WHERE 1 <> 1 LIMIT 0;
show timezone;

-- Superset
SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg_%' ORDER BY nspname;
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname =
    'city' AND c.relkind in ('r', 'p');
SELECT datname FROM pg_database WHERE datistemplate = false;
SELECT attname FROM pg_attribute WHERE attrelid = 'city.t'::regclass AND attnum > 0;
SELECT pg_backend_pid();
EXPLAIN SELECT id FROM city.t;
SELECT DATE_TRUNC('day', now()) AS __timestamp, COUNT(*) AS count FROM city.t GROUP BY
    DATE_TRUNC('day', now()) ORDER BY count DESC LIMIT 10000;

-- Tableau / generic
SELECT pg_client_encoding();
SET client_encoding = 'UTF8'; SET DateStyle = 'ISO'; SET extra_float_digits = 2;
select current_catalog, current_role, inet_server_addr(), inet_server_port(),
    pg_postmaster_start_time() is not null;
select has_database_privilege('kho','connect'), obj_description('city.t'::regclass, 'pg_class'),
    pg_encoding_to_char(6);
