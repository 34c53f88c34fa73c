// pgjdbc: metadata, prepared statements past prepareThreshold, fetch sizes, batches, COPY, blocks.
// Run from its source by `java`, with the driver on the class path.

import java.io.StringReader;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import java.util.UUID;
import org.postgresql.PGConnection;

public class Client {
    static final UUID CODE = UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
    static final OffsetDateTime AT = OffsetDateTime.parse("2026-11-01T01:30:00.000250Z");
    static final LocalDateTime SHOWN = LocalDateTime.parse("2026-11-01T08:30:00.5");
    static final LocalDate DAY = LocalDate.parse("2026-11-01");

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = connect("")) {
            run(connection, "CREATE SCHEMA city");
            values(connection);
            fetches(connection);
            batches(connection);
            blocks(connection);
            copies(connection);
            failures(connection);
            metadata(connection);
        }
        // Text values, and no prepared statement of a name.
        try (Connection connection = connect("&preferQueryMode=simple")) {
            same(read(connection).get(0), "7 Phú Hội's ? \\ {x}");
        }
        try (Connection connection = connect("&binaryTransfer=false&prepareThreshold=1")) {
            same(read(connection).get(0), "7 Phú Hội's ? \\ {x}");
        }
        // Every value in binary, from the first execution on.
        try (Connection connection = connect("&prepareThreshold=-1")) {
            same(read(connection).get(0), "7 Phú Hội's ? \\ {x}");
        }
    }

    static Connection connect(String options) throws SQLException {
        String url = "jdbc:postgresql://127.0.0.1:" + System.getenv("KHO_PG_PORT")
            + "/kho?sslmode=verify-full&sslrootcert=" + System.getenv("KHO_CERTIFICATE") + options;
        Properties who = new Properties();
        who.setProperty("user", "admin");
        who.setProperty("password", "admin");
        return DriverManager.getConnection(url, who);
    }

    static void values(Connection connection) throws SQLException {
        run(connection, "CREATE TABLE city.t (id bigint NOT NULL, small smallint, whole integer,"
            + " ok boolean, name text, brief varchar(20), price numeric(20, 4), share real,"
            + " exact double precision, day date, at timestamptz, shown timestamp, raw bytea,"
            + " code uuid, words text[], numbers integer[])");
        String insert = "INSERT INTO city.t VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        for (int round = 0; round < 2; round++) {
            try (PreparedStatement statement = connection.prepareStatement(insert)) {
                // The driver turns to a statement with a name and to binary values on the way.
                for (int id = 7; id < 14; id++) {
                    bind(connection, statement, id + 100 * round);
                    same(statement.executeUpdate(), 1);
                }
                for (int index = 2; index <= 16; index++) {
                    statement.setNull(index, Types.NULL);
                }
                statement.setLong(1, 99 + 100 * round);
                same(statement.executeUpdate(), 1);
            }
        }
        String query = "SELECT * FROM city.t WHERE id = ?";
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            for (int round = 0; round < 8; round++) {
                statement.setLong(1, 7);
                try (ResultSet rows = statement.executeQuery()) {
                    same(rows.next(), true);
                    check(rows);
                    same(rows.next(), false);
                }
            }
            statement.setLong(1, 99);
            try (ResultSet rows = statement.executeQuery()) {
                same(rows.next(), true);
                for (int index = 2; index <= 16; index++) {
                    same(rows.getObject(index), null);
                }
            }
        }
        String times = "SELECT count(*) FROM city.t WHERE at = ? AND shown = ? AND day = ? AND code = ?"
            + " AND id = ANY (?) AND price > ?";
        try (PreparedStatement statement = connection.prepareStatement(times)) {
            statement.setObject(1, AT);
            statement.setObject(2, SHOWN);
            statement.setDate(3, Date.valueOf(DAY));
            statement.setObject(4, CODE);
            statement.setArray(5, connection.createArrayOf("bigint", new Long[] {7L, 8L, 500L}));
            statement.setBigDecimal(6, new BigDecimal("12.34"));
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                same(rows.getLong(1), 2L);
            }
        }
    }

    static void bind(Connection connection, PreparedStatement statement, int id) throws SQLException {
        statement.setLong(1, id);
        statement.setShort(2, (short) -5);
        statement.setInt(3, 42);
        statement.setBoolean(4, true);
        statement.setString(5, "Phú Hội's ? \\ {x}");
        statement.setString(6, "ngắn");
        statement.setBigDecimal(7, new BigDecimal("12345678901234.5678"));
        statement.setFloat(8, 1.5f);
        statement.setDouble(9, 0.1);
        statement.setObject(10, DAY);
        statement.setObject(11, AT);
        statement.setObject(12, SHOWN);
        statement.setBytes(13, new byte[] {0, -1, 39});
        statement.setObject(14, CODE);
        statement.setArray(15, connection.createArrayOf("text", new String[] {"một", null, "a,\"b\""}));
        statement.setArray(16, connection.createArrayOf("int4", new Integer[] {1, null, 3}));
    }

    static void check(ResultSet rows) throws SQLException {
        same(rows.getLong("id"), 7L);
        same(rows.getShort("small"), (short) -5);
        same(rows.getInt("whole"), 42);
        same(rows.getBoolean("ok"), true);
        same(rows.getString("name"), "Phú Hội's ? \\ {x}");
        same(rows.getString("brief"), "ngắn");
        same(rows.getBigDecimal("price"), new BigDecimal("12345678901234.5678"));
        same(rows.getFloat("share"), 1.5f);
        same(rows.getDouble("exact"), 0.1);
        same(rows.getObject("day", LocalDate.class), DAY);
        same(rows.getObject("at", OffsetDateTime.class).toInstant(), AT.toInstant());
        same(rows.getObject("shown", LocalDateTime.class), SHOWN);
        same(Arrays.toString(rows.getBytes("raw")), "[0, -1, 39]");
        same(rows.getObject("code"), CODE);
        same(Arrays.toString((Object[]) rows.getArray("words").getArray()), "[một, null, a,\"b\"]");
        same(Arrays.toString((Object[]) rows.getArray("numbers").getArray()), "[1, null, 3]");
        ResultSetMetaData columns = rows.getMetaData();
        same(columns.getColumnCount(), 16);
        same(columns.getColumnTypeName(1), "int8");
        same(columns.getColumnType(7), Types.NUMERIC);
        same(columns.getPrecision(7) + " " + columns.getScale(7), "20 4");
        same(columns.getColumnDisplaySize(6), 20);
    }

    static List<String> read(Connection connection) throws SQLException {
        List<String> found = new ArrayList<>();
        String query = "SELECT id, name FROM city.t WHERE id < ? ORDER BY id";
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            for (int round = 0; round < 7; round++) {
                statement.setInt(1, 50);
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) {
                        found.add(rows.getLong(1) + " " + rows.getString(2));
                    }
                }
            }
        }
        same(found.size(), 7 * 7);
        return found;
    }

    static void fetches(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(100);
            long sum = 0;
            try (ResultSet rows = statement.executeQuery("SELECT x FROM generate_series(1, 1050) AS g (x)")) {
                while (rows.next()) {
                    sum += rows.getLong(1);
                }
            }
            same(sum, 551775L);
            statement.setMaxRows(5);
            int count = 0;
            try (ResultSet rows = statement.executeQuery("SELECT x FROM generate_series(1, 1050) AS g (x)")) {
                while (rows.next()) {
                    count++;
                }
            }
            same(count, 5);
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void batches(Connection connection) throws SQLException {
        run(connection, "CREATE TABLE city.b (id integer, name text)");
        connection.setAutoCommit(false);
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO city.b VALUES (?, ?)")) {
            for (int id = 0; id < 300; id++) {
                statement.setInt(1, id);
                statement.setString(2, "n" + id);
                statement.addBatch();
            }
            int[] counts = statement.executeBatch();
            same(Arrays.stream(counts).sum(), 300);
        }
        connection.commit();
        try (Statement statement = connection.createStatement()) {
            statement.addBatch("UPDATE city.b SET name = 'x' WHERE id < 10");
            statement.addBatch("DELETE FROM city.b WHERE id >= 200");
            same(Arrays.toString(statement.executeBatch()), "[10, 100]");
        }
        connection.rollback();
        connection.setAutoCommit(true);
        same(count(connection, "city.b"), 300L);
    }

    static void blocks(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        run(connection, "INSERT INTO city.b VALUES (1000, 'a')");
        run(connection, "INSERT INTO city.b VALUES (1001, 'b')");
        same(count(connection, "city.b"), 302L);
        connection.rollback();
        same(count(connection, "city.b"), 300L);
        connection.commit();
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        same(connection.getTransactionIsolation(), Connection.TRANSACTION_REPEATABLE_READ);
        same(count(connection, "city.b"), 300L);
        connection.commit();
        connection.setAutoCommit(true);
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        same(connection.isReadOnly(), false);
        same(connection.isValid(5), true);
        try (PreparedStatement statement = connection.prepareStatement(
            "INSERT INTO city.b VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
            statement.setInt(1, 2000);
            statement.setString(2, "back");
            same(statement.executeUpdate(), 1);
            try (ResultSet keys = statement.getGeneratedKeys()) {
                same(keys.next(), true);
                same(keys.getInt("id"), 2000);
            }
        }
    }

    static void copies(Connection connection) throws Exception {
        run(connection, "CREATE TABLE city.c (id integer, name text)");
        var manager = connection.unwrap(PGConnection.class).getCopyAPI();
        same(manager.copyIn("COPY city.c FROM STDIN (FORMAT csv)", new StringReader("1,một\n2,\n")), 2L);
        var out = new java.io.StringWriter();
        same(manager.copyOut("COPY (SELECT * FROM city.c ORDER BY id) TO STDOUT", out), 2L);
        same(out.toString(), "1\tmột\n2\t\\N\n");
    }

    static void failures(Connection connection) throws SQLException {
        String[][] wanted = {
            {"SELECT * FROM city.missing", "42P01"}, {"SELECT 1 / 0", "22012"},
            {"SELEC", "42601"}, {"INSERT INTO city.t (id) VALUES (NULL)", "23502"},
        };
        for (String[] one : wanted) {
            try {
                run(connection, one[0]);
            } catch (SQLException error) {
                same(error.getSQLState(), one[1]);
                continue;
            }
            throw new AssertionError(one[0] + " did not fail");
        }
        same(count(connection, "city.c"), 2L);
    }

    static void metadata(Connection connection) throws SQLException {
        run(connection, "CREATE VIEW city.v AS SELECT id, name FROM city.t");
        run(connection, "COMMENT ON TABLE city.t IS 'Bảng'");
        run(connection, "CREATE TABLE city.keyed (a integer, b integer, c text, PRIMARY KEY (b, a))");
        DatabaseMetaData data = connection.getMetaData();
        same(data.getDatabaseProductName(), "PostgreSQL");
        same(column(data.getSchemas(), "TABLE_SCHEM").contains("city"), true);
        same(column(data.getCatalogs(), "TABLE_CAT"), List.of("kho"));
        same(column(data.getTables(null, "city", "%", new String[] {"TABLE"}), "TABLE_NAME"),
            List.of("b", "c", "keyed", "t"));
        same(column(data.getTables(null, "city", "%", new String[] {"VIEW"}), "TABLE_NAME"), List.of("v"));
        same(column(data.getTables(null, "city", "t", null), "REMARKS"), List.of("Bảng"));
        same(column(data.getTableTypes(), "TABLE_TYPE").contains("VIEW"), true);
        same(column(data.getColumns(null, "city", "t", "%"), "TYPE_NAME"), List.of("int8", "int2",
            "int4", "bool", "text", "varchar", "numeric", "float4", "float8", "date", "timestamptz",
            "timestamp", "bytea", "uuid", "_text", "_int4"));
        same(column(data.getColumns(null, "city", "t", "price"), "COLUMN_SIZE"), List.of("20"));
        same(column(data.getColumns(null, "city", "t", "price"), "DECIMAL_DIGITS"), List.of("4"));
        same(column(data.getColumns(null, "city", "t", "id"), "IS_NULLABLE"), List.of("NO"));
        same(column(data.getPrimaryKeys(null, "city", "keyed"), "COLUMN_NAME"), List.of("b", "a"));
        same(column(data.getPrimaryKeys(null, "city", "keyed"), "KEY_SEQ"), List.of("1", "2"));
        same(column(data.getPrimaryKeys(null, "city", "t"), "COLUMN_NAME"), List.of());
        same(column(data.getImportedKeys(null, "city", "t"), "FKCOLUMN_NAME"), List.of());
        same(column(data.getTypeInfo(), "TYPE_NAME").containsAll(
            List.of("int8", "text", "numeric", "timestamptz", "uuid", "bytea")), true);
        column(data.getIndexInfo(null, "city", "t", false, true), "INDEX_NAME");
        column(data.getBestRowIdentifier(null, "city", "keyed", 0, true), "COLUMN_NAME");
        column(data.getTablePrivileges(null, "city", "t"), "GRANTEE");
        column(data.getColumnPrivileges(null, "city", "t", "id"), "GRANTEE");
        column(data.getProcedures(null, "kho", "%"), "PROCEDURE_NAME");
        column(data.getFunctions(null, "kho", "%"), "FUNCTION_NAME");
        column(data.getUDTs(null, "city", "%", null), "TYPE_NAME");
        column(data.getClientInfoProperties(), "NAME");
        same(data.getMaxColumnNameLength(), 63);
        data.getSQLKeywords();
    }

    static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> found = new ArrayList<>();
        try (rows) {
            while (rows.next()) {
                found.add(rows.getString(name));
            }
        }
        return found;
    }

    static long count(Connection connection, String table) throws SQLException {
        try (Statement statement = connection.createStatement();
            ResultSet rows = statement.executeQuery("SELECT count(*) FROM " + table)) {
            rows.next();
            return rows.getLong(1);
        }
    }

    static void run(Connection connection, String text) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(text);
        }
    }

    static void same(Object found, Object wanted) {
        if (!Objects.equals(found, wanted)) {
            throw new AssertionError("found " + found + ", wanted " + wanted);
        }
    }
}
