#!/bin/sh
# Bring the schema of Temporal's two databases to the version of this image. Harmless to repeat.
set -eu

schema() {
  database=$1 versions=/etc/temporal/schema/postgresql/v12/$2/versioned
  tool="temporal-sql-tool --plugin postgres12 --ep postgres -p 5432 -u temporal --db $database"
  $tool setup-schema -v 0.0
  $tool update-schema -d "$versions"
}

schema temporal temporal
schema temporal_visibility visibility
