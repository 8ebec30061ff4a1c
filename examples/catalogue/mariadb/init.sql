-- Runs at every start. The password stands between quotes: letters and digits.
CREATE DATABASE IF NOT EXISTS app CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS app@'%';
ALTER USER app@'%' IDENTIFIED BY '{secret.password}';
GRANT ALL ON app.* TO app@'%';
