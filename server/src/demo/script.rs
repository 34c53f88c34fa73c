//! The statements that make the demo, and who runs them.

/// A role of the demo; its password is its name and `-demo`.
pub(super) struct Person {
    pub role: &'static str,
    pub about: &'static str,
}

/// Who can log in, beside `admin`.
pub(super) const PEOPLE: &[Person] = &[
    Person { role: CIVIL_REGISTRAR, about: "owns civil_registry" },
    Person { role: BUSINESS_REGISTRAR, about: "owns business" },
    Person { role: HEALTH_OFFICER, about: "owns health: patients are personal data" },
    Person { role: ENVIRONMENT_OFFICER, about: "owns environment" },
    Person { role: ANALYST, about: "reads open data, and health only as counts" },
    Person { role: WARD_OFFICE, about: "reads the wards, the counts, and its own ward's patients" },
    Person { role: RESEARCHER, about: "reads every ward's patients, and sees nobody in them" },
    Person { role: AUDITOR, about: "audits, and so reads no data" },
];

pub(super) const CIVIL_REGISTRAR: &str = "civil_registrar";
pub(super) const BUSINESS_REGISTRAR: &str = "business_registrar";
pub(super) const HEALTH_OFFICER: &str = "health_officer";
pub(super) const ENVIRONMENT_OFFICER: &str = "environment_officer";
pub(super) const ANALYST: &str = "analyst";
pub(super) const WARD_OFFICE: &str = "ward_office";
pub(super) const RESEARCHER: &str = "researcher";
pub(super) const AUDITOR: &str = "auditor";

/// The password of `role`, printed with the tour.
pub(super) fn password(role: &str) -> String {
    format!("{role}-demo")
}

/// Run by `admin`, after the roles are there.
pub(super) const SCHEMAS: &str = "
CREATE SCHEMA civil_registry AUTHORIZATION civil_registrar;
CREATE SCHEMA business AUTHORIZATION business_registrar;
CREATE SCHEMA health AUTHORIZATION health_officer;
CREATE SCHEMA environment AUTHORIZATION environment_officer;
GRANT kho_auditor TO auditor;
CALL kho.set_role_attribute(role => 'ward_office', name => 'ward', value => '99001');
";

/// Each run by the owner of its schema.
pub(super) const COMMUNE: &str = "
CREATE TABLE civil_registry.commune (
  code text NOT NULL, name text NOT NULL, kind text NOT NULL,
  area_km2 numeric(8,2) NOT NULL, population integer NOT NULL
) WITH (classification = 'open', update_frequency = 'P1Y');
COMMENT ON TABLE civil_registry.commune IS 'Phường và xã của thành phố Hải Lam';
GRANT USAGE ON SCHEMA civil_registry TO analyst, ward_office;
GRANT SELECT ON civil_registry.commune TO analyst, ward_office;
";

pub(super) const REGISTRY: &str = "
CREATE TABLE business.registry (
  tax_code text NOT NULL, name text NOT NULL, commune_code text NOT NULL, sector text NOT NULL,
  registered date NOT NULL, capital numeric(18,2), status text NOT NULL,
  CONSTRAINT capital_not_negative CHECK (capital >= 0)
) WITH (classification = 'open', update_frequency = 'P1D');
COMMENT ON TABLE business.registry IS 'Đăng ký doanh nghiệp; vốn điều lệ tính bằng đồng';
COMMENT ON COLUMN business.registry.tax_code IS 'Mã số thuế, giữ số 0 ở đầu';
GRANT USAGE ON SCHEMA business TO analyst;
GRANT SELECT ON business.registry TO analyst;
";

pub(super) const PATIENT: &str = "
CREATE TABLE health.patient (
  id bigint NOT NULL, national_id text NOT NULL, full_name text NOT NULL, phone text,
  ward text NOT NULL, born date NOT NULL, updated_at timestamptz NOT NULL
) WITH (classification = 'personal', update_frequency = 'P1D',
        retention = 'P10Y', retention_column = 'updated_at');
COMMENT ON TABLE health.patient IS 'Người bệnh đăng ký tại các trạm y tế của thành phố';
CREATE VIEW health.patients_per_ward AS
  SELECT ward, count(*) AS patients FROM health.patient GROUP BY ward;
GRANT USAGE ON SCHEMA health TO analyst, ward_office;
GRANT SELECT ON health.patients_per_ward TO analyst, ward_office;
";

/// Who sees which patients, how much of them, and for what: one table, three roles, three answers.
pub(super) const PATIENT_ACCESS: &str = "
GRANT USAGE ON SCHEMA health TO researcher;
GRANT SELECT ON health.patient TO ward_office, researcher;
CREATE POLICY own_ward ON health.patient FOR SELECT TO ward_office
  USING (ward = kho.role_attribute('ward'));
CREATE POLICY every_ward ON health.patient FOR SELECT TO researcher USING (true);
ALTER TABLE health.patient ENABLE ROW LEVEL SECURITY;
CALL kho.tag_column('health.patient', 'national_id', 'national_id');
CALL kho.tag_column('health.patient', 'phone', 'phone');
CALL kho.set_mask(tag => 'national_id', using => $$'********' || right(value, 4)$$,
                  except_roles => 'health_officer');
CALL kho.set_mask(tag => 'phone', using => 'NULL', except_roles => 'health_officer');
CALL kho.set_mask(dataset => 'health.patient', column => 'full_name',
                  using => $$left(value, 1) || '…'$$, except_roles => 'health_officer, ward_office');
CALL kho.set_mask(dataset => 'health.patient', column => 'born', using => 'kho.year(value)',
                  except_roles => 'health_officer, ward_office');
CALL kho.grant_agreement(dataset => 'health.patient', role => 'health_officer', purposes => 'd',
                         valid_until => '2099-12-31', basis => 'QĐ 12/QĐ-SYT');
CALL kho.grant_agreement(dataset => 'health.patient', role => 'ward_office', purposes => 'd',
                         valid_until => '2099-12-31', basis => 'CV 31/SYT');
CALL kho.grant_agreement(dataset => 'health.patient', role => 'researcher', purposes => 'a',
                         valid_until => '2099-12-31', basis => 'CV 47/SYT');
CALL kho.grant_agreement(dataset => 'health.patient', role => 'analyst', purposes => 'a',
                         valid_until => '2099-12-31', basis => 'CV 48/SYT');
ALTER TABLE health.patient SET (allowed_purposes = 'a,d', requires_agreement = true);
";

pub(super) const AIR: &str = "
CREATE TABLE environment.station (
  id integer NOT NULL, name text NOT NULL, commune_code text NOT NULL
) WITH (classification = 'open');
CREATE TABLE environment.air_quality (
  station_id integer NOT NULL, measured_at timestamptz NOT NULL,
  pm25 numeric(6,1), pm10 numeric(6,1), no2 numeric(6,1)
) WITH (classification = 'open', update_frequency = 'PT1H');
COMMENT ON TABLE environment.air_quality IS 'Chất lượng không khí theo giờ, microgam trên mét khối';
GRANT USAGE ON SCHEMA environment TO analyst;
GRANT SELECT ON environment.station, environment.air_quality TO analyst;
";

/// `MISCALIBRATED_STATION` reported ten times too much in April.
pub(super) const CORRECTION: &str = "
UPDATE environment.air_quality SET pm25 = pm25 / 10, pm10 = pm10 / 10
WHERE station_id = 5
  AND measured_at >= '2026-04-01 00:00:00+07' AND measured_at < '2026-05-01 00:00:00+07';
";

/// `FAULTY_STATION` was stuck for some days in May.
pub(super) const REMOVAL: &str = "
DELETE FROM environment.air_quality WHERE station_id = 9 AND pm25 > 999;
";
